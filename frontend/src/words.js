// Every word of the page, so that other languages can follow: build.js puts them into index.html, the modules take them from here.
// Names and plain words of findings, and what the server says of a film, come from the server.

const percent = (share) => Math.round(100 * share);
const spoken = (finding) => finding.replaceAll("_", " ");
const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);

const SIDES = { left: "left", right: "right" };
const place = ({ side, zone }) => (side === "both" ? `both ${zone} zones` : side === "central" ? `central, ${zone} zone` : `${SIDES[side]} ${zone} zone`);
const CALLS = { present: "above threshold", absent: "below threshold", indeterminate: "indeterminate", "no threshold": "no threshold" };
const STATES = { queued: "waiting", running: "being scored", done: "scored", refused: "refused" };

export const words = {
  // the page
  title: "Hilum reading room",
  disclaimer: "Research software, not a medical device. Not for diagnosis, treatment or triage of patients.",
  disclaimerShort: "Research only: not a medical device, not for diagnosis.",
  notice: "Notice",
  films: "Films",
  worklist: "Worklist",
  findings: "Findings",
  foldWorklist: "Worklist: show or fold",
  foldFindings: "Findings: show or fold",
  help: "Keys and help",
  lightTheme: "Light theme",
  darkTheme: "Dark theme",
  close: "Close",
  model: ({ name, engine, size }) => `${name} · ${engine} · ${size} px`,

  // opening films
  dropTitle: "Drop films here",
  dropText: "PNG, JPEG or DICOM, a folder of them, or a zip file. They go to this server only, which keeps none.",
  choose: "Choose films",
  chooseFolder: "Choose a folder",
  folder: "A folder of films",
  examples: "Try example films",
  add: "Add films",
  clear: "Clear: forget all films",
  token: "Token",
  tokenTitle: "This server wants its token",
  enter: "Enter",
  away: "The server does not answer. Films wait here and are sent when it is back.",
  awayShort: "The server does not answer.",
  reload: (why) => `${why} The page goes on when it is back.`,

  // tools
  tools: "Film tools",
  dragging: "What dragging does",
  window: "Window: drag for brightness and contrast",
  pan: "Pan: drag the film",
  zoom: "Zoom: drag; the wheel and two fingers always do",
  magnify: "Magnifier: hold; so does a resting finger",
  ruler: "Ruler: drag",
  rulerPixels: "Ruler: drag; in pixels, as the file does not say how large they are",
  preset: "Window preset",
  presetAuto: "Auto (1 to 99 %)",
  presetFull: "Full range",
  presetLungs: "Lungs",
  presetBones: "Bones",
  presetCustom: "Custom",
  invert: "Invert",
  rotate: "Rotate by 90 degrees",
  fit: "Fit: the whole film; so does a double click",
  actual: "1:1: a pixel of the film for each of the screen",
  reset: "Reset window, zoom and rotation",
  full: "Full screen",
  compare: "Compare two films",
  linked: "Link window, zoom and pan of both films",
  regions: "Regions: show or hide",
  savePng: "Save what you see as PNG",
  saveDicom: "Save the result as DICOM",
  notDicom: "Save the result as DICOM: only of a DICOM film",

  // on the film
  noFilm: "No film is open",
  noOther: "No film to compare",
  paneKeys: "Arrow keys change the window, plus and minus zoom, Shift with arrow keys moves the film. With a ruler, Enter sets its ends and arrow keys move them.",
  opening: (film) => `${film} is being opened`,
  shown: (film, columns, rows) => `Chest film ${film}, ${columns} by ${rows} pixels`,
  failed: (film, why) => `${film}: ${why}`,
  wasRefused: (film, why) => `${film} was refused: ${why}`,
  windowed: (named, low, high, zoom) => `window ${named} ${percent(low)} to ${percent(high)} % · zoom ${percent(zoom)} %`,
  windowNames: { auto: "auto", full: "full", lungs: "lungs", bones: "bones", custom: "" },
  region: ({ finding, score, region }) => `${spoken(finding)} ${score.toFixed(2)} · ${place(region)}`,
  chosen: ({ finding, score, call }) => `${spoken(finding)} ${score.toFixed(3)} · ${CALLS[call]}`,
  regionsUnvalidated: "Regions were never validated on boxes.",
  rulerHint: "Drag over the film; or press Enter on it, and arrow keys.",

  // findings
  noResult: "Open a film to see what the model says of it.",
  reading: "The film is being scored.",
  refusedWhy: (why) => `Refused: ${why}`,
  notAnalysed: "Not analysed: there are no scores.",
  misfit: (film, kind, why, forced) => `${forced ? "Do not rely on these scores." : "Not analysed."} ${film} does not fit the model (${kind}): ${why}.`,
  anyway: "Show anyway",
  sort: "Sort",
  sortFinding: "finding",
  sortScore: "score",
  sortCall: "above threshold first",
  sortTriage: "triage order (never validated)",
  triageWarning: "This order is Hilum's own and was never validated. It is no triage.",
  point: "Operating point",
  points: {
    youden: "balanced (Youden)", "sensitivity-90": "sensitivity 90 %", "specificity-90": "specificity 90 %", "alarms-10": "10 positive calls per 100 films",
  },
  call: (call) => CALLS[call],
  finding: spoken,
  summary: (present, indeterminate) => {
    const parts = [];
    if (present.length) parts.push(`Above threshold: ${listed(present.map(spoken))}.`);
    if (indeterminate.length) parts.push(`Indeterminate from the threshold on: ${listed(indeterminate.map(spoken))}.`);
    return parts.join(" ") || "Nothing is above its threshold.";
  },
  axisTitle: "Log-odds: 0.01 lies as far from 0.1 as 0.99 from 0.9, so that low scores can be told apart",
  score: (score) => score.toFixed(3),
  belowNoRegion: "Below threshold: no region.",
  emptyRegion: "The map has no evidence anywhere: no region.",
  regionPlace: (region) => `Region: ${place(region)}, ${percent(region.area)} % of the film. The side holds if the film is hung as usual; compare its side marker.`,
  limits: ({ value, low, high, why }) => {
    const at = (score) => score.toFixed(3);
    if (low >= high) return `Threshold ${at(value)}.`;
    if (why) return `The threshold is ${at(value)}, but it has no interval (${why}), so every score is indeterminate.`;
    return `Threshold ${at(value)}; indeterminate from ${at(low)} to below ${at(high)}, the interval that the validation films leave for it.`;
  },
  noThreshold: "There is no threshold for it.",
  unmeasured: "How well the model finds it was not measured.",
  measured: ({ value, low, high, why }, films) => `Measured: AUROC ${value.toFixed(2)}${low === null ? (why ? ` (${why})` : "") : ` [${low.toFixed(2)}, ${high.toFixed(2)}]`} on ${films} films.`,
  detailHint: "Choose a finding for its threshold, region and what was measured.",
  calibrated: "Scores are calibrated: probabilities for films like those of the calibration.",
  uncalibrated: "Scores are not calibrated: they are no probabilities.",
  learned: (learned) => `The model was ${learned}.`,
  scale: "Line: threshold; hatched: indeterminate; the scale is of log-odds.",
  noThresholds: "This model has no thresholds, so there are no calls.",
  regionsValidated: ({ level, iou, boxed }) => `Regions: from ${percent(level)} % of the strongest place on, a level chosen on ${boxed} findings with true boxes (mean overlap ${iou.toFixed(2)}).`,

  // worklist
  states: STATES,
  tally: (counts) => Object.entries(counts).filter(([, count]) => count).map(([state, count]) => `${count} ${STATES[state]}`).join(", "),
  csv: "Save all scores as CSV",
  rowAnyway: (kind) => `shown anyway, does not fit the model: ${kind}`,
  rowNot: (kind) => `not analysed: ${kind}`,
  rowNone: "nothing above threshold",
  rowTop: (found) => found.map((one) => `${spoken(one.finding)} ${one.score.toFixed(2)}${one.call === "indeterminate" ? "?" : ""}`).join(", "),

  filter: "Filter by name, patient or date",
  show: "Show",
  showAll: "all films",
  showAbove: "above threshold",
  showIndeterminate: "indeterminate",
  showNothing: "nothing above",
  showNot: "not analysed",
  showRefused: "refused",
  showRead: "read",
  showUnread: "not read",
  ofFinding: "Finding",
  anyFinding: "any finding",
  order: "Order",
  orderPatient: "patient, newest first",
  orderAdded: "as added",
  orderName: "name",
  orderScore: "score, highest first",
  orderDate: "date, newest first",
  group: (patient, films) => `${patient} · ${films} ${films === 1 ? "film" : "films"}`,
  prior: "prior",
  lateral: "lateral: viewed, not scored",
  none: "No film is like that.",
  keepFilms: "Keep the films in this browser until Clear",
  clearTitle: "Forget all films?",
  clearText: "The films, what you wrote of them and how you left them are forgotten here. The files stay where they are.",
  clearYes: "Forget all",
  clearNo: "Cancel",

  // the reader's own opinion
  opinion: "Your reading",
  agree: { present: "Agree: present", absent: "Agree: absent" },
  disagree: { present: "Disagree: present", absent: "Disagree: absent" },
  say: { present: "Present", absent: "Absent" },
  comment: "Comment",
  readAs: (present) => (present ? "read as present" : "read as absent"),
  saveReading: "Save your readings, for hilum evaluate --reference",

  saveSigned: "Save your readings as DICOM reports",
  notSigned: "Save your readings as DICOM reports: once a DICOM film is read",
  signTitle: "Your readings as DICOM reports",
  signText: (films) => `A structured report in the study of ${films === 1 ? "the DICOM film" : `each of the ${films} DICOM films`} that you read: your opinion and comment beside the model's call. It is preliminary and not verified.`,
  signer: "Your name (Family^Given), or nothing",
  signYes: "Save",

  // the draft
  draft: "Draft report",
  draftTitle: "Draft report",
  draftText: "Text of the draft, to be edited",
  copy: "Copy",
  copied: "The draft is copied.",
  draftHead: (film, said) => [film, ...said].join(" · "),
  draftFound: (finding, region) => `Possible ${spoken(finding).toLowerCase()}${region ? `, ${place(region)}` : ""}.`,
  draftRead: (finding, region) => `${spoken(finding)}${region ? `, ${place(region)}` : ""}.`,
  draftOpen: (findings) => `Indeterminate from the threshold on: ${listed(findings.map(spoken)).toLowerCase()}.`,
  draftNone: "No finding above its threshold.",
  draftFoot: (model, point, date) => `Draft of ${model}${point ? `, operating point ${point}` : ""}, ${date}. Research software, not a medical device; not for diagnosis.`,

  // what is taken along
  pictureModel: (model, point, date) => `${model}${point ? ` · operating point ${point}` : ""} · ${date}`,
  pictureFinding: ({ finding, score, call, threshold }) => `${spoken(finding)}: score ${score.toFixed(3)}, ${CALLS[call]}${threshold ? ` (${threshold.value.toFixed(3)})` : ""}`,
  forcedPicture: (why) => `Shown although it does not fit the model: ${why}`,
  notPicture: (why) => `Not analysed: ${why}`,
  pictureDisclaimer: "Research software, not a medical device",

  // the ruler
  millimetres: (length, detector) => `${length.toFixed(1)} mm${detector ? " at the detector" : ""}`,
  pixels: (length) => `${length.toFixed(0)} px`,
  doubtful: (length) => `${length}, doubtful: the file's pixel size is not that of a chest film`,
  ratio: (ratio, placed) => `Cardiothoracic ratio ${ratio.toFixed(2)}${placed ? "" : " (callipers not placed yet)"}`,
  ratioTool: "Cardiothoracic ratio: two callipers, heart and chest, to be dragged",
  ratioHint: "Drag the ends of the upper line to the heart's borders, and those of the lower to the chest's.",
  rulerStart: "Ruler: arrow keys move its start, with Shift finely; Enter sets it, Escape takes it away.",
  rulerEnd: "The start is set. Arrow keys move the end, with Shift finely; Enter sets it.",
  rulerSet: (length) => `The ruler is set: ${length}.`,
  rulerGone: "The ruler is taken away.",

  // archives
  archiveFault: (what) => `archive must be ${what}`,
  archiveIntact: (why) => `an intact zip file: ${why}. Pack it again.`,
  archiveEmpty: "of at least one film, got none.",
  archiveFilms: (most, got) => `of at most ${most} films, got ${got}. Send them in parts.`,
  archiveBytes: (most, got) => `of at most ${most} bytes when unpacked, got ${got}. Send it in parts.`,
  archiveLocked: "without a password, got an encrypted one.",
  memberFault: (why) => `film must be intact in its archive: ${why}. Pack it again.`,

  // help
  keysTitle: "Keys",
  keys: [
    ["N, B", "next film, film before"],
    ["J, K", "next finding, finding before"],
    ["G, X", "agree, disagree with the chosen finding's call"],
    ["Y", "draft report"],
    ["/", "filter the worklist"],
    ["H", "show or hide regions"],
    ["W P Z M R", "window, pan, zoom, magnifier, ruler: what dragging does"],
    ["1 2 3 4", "window: auto, full range, lungs, bones"],
    ["0", "reset window, zoom and rotation"],
    ["F, T", "fit, 1:1; a double click fits"],
    ["I, O", "invert, rotate"],
    ["+ and -", "zoom; so do the wheel and two fingers, which also move the film; a resting finger magnifies"],
    ["Arrows", "left and right contrast, up and down brightness; with Shift: move the film"],
    ["Enter", "on the film, with the ruler: sets one end, then the other; arrow keys move them, with Shift finely; Escape or Delete takes it away"],
    ["Q", "cardiothoracic ratio"],
    ["C, V", "compare two films; link their window, zoom and pan"],
    ["L, D", "fold worklist, fold findings"],
    ["U", "full screen"],
    ["A", "add films"],
  ],
  helpScale: "The bars are on a scale of log-odds from 0.001 to 0.999: 0.01 lies as far from 0.1 as 0.99 from 0.9, so that low scores can be told apart. The line is the threshold; hatched is where a call is indeterminate: there, the validation films do not tell on which side of the threshold a score lies, and the fewer films had the finding, the wider it is. The digits are the score itself.",
  helpRegions: "A region is where the evidence for a finding is strongest: solid above threshold, dashed where indeterminate. Below threshold there is none. Side and zone follow from its place, for a film that is hung as usual: only you can read the film's side marker.",
};
