"""Beside the PACS: results as DICOM objects in the patient's own study, and the service that makes them."""
