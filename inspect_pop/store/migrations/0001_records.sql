-- What an inspection leaves behind. ${identity} and ${clustered} differ between SQLite and PostgreSQL; all else is common.

-- What many boards share, kept once: yield groups are formed here, so a group of 100,000 boards joins a few hundred rows.
CREATE TABLE contexts (
  id ${identity},
  key TEXT NOT NULL UNIQUE,
  day TEXT NOT NULL,
  product TEXT NOT NULL,
  lot TEXT,
  work_order TEXT,
  line TEXT NOT NULL,
  station TEXT NOT NULL,
  recipe TEXT NOT NULL,
  recipe_revision INTEGER NOT NULL
);

CREATE TABLE recipes (
  id ${identity},
  digest TEXT NOT NULL UNIQUE
);

CREATE TABLE digests (
  id ${identity},
  key TEXT NOT NULL UNIQUE,
  recipe_id BIGINT NOT NULL REFERENCES recipes (id),
  model_digest TEXT NOT NULL,
  limits_digest TEXT NOT NULL,
  software TEXT NOT NULL
);

CREATE TABLE sites (
  id ${identity},
  key TEXT NOT NULL UNIQUE,
  refdes TEXT NOT NULL,
  part TEXT NOT NULL,
  construction TEXT NOT NULL,
  warpage_limit_um DOUBLE PRECISION
);

-- Every ball that a recipe expects; where it is, once it has been seen.
CREATE TABLE positions (
  recipe_id BIGINT NOT NULL REFERENCES recipes (id),
  refdes TEXT NOT NULL,
  interface TEXT NOT NULL,
  ball TEXT NOT NULL,
  x_um DOUBLE PRECISION,
  y_um DOUBLE PRECISION,
  PRIMARY KEY (recipe_id, refdes, interface, ball)
) ${clustered};

CREATE TABLE runs (
  id TEXT NOT NULL PRIMARY KEY,
  command TEXT NOT NULL,
  arguments TEXT NOT NULL,
  software TEXT NOT NULL,
  started_at TEXT NOT NULL,
  finished_at TEXT,
  outcome TEXT
);

-- Merged files of joints. A board is in one of these, or has its own file, whose name follows from its record, or none.
CREATE TABLE files (
  id ${identity},
  path TEXT NOT NULL UNIQUE,
  day TEXT NOT NULL,
  lot TEXT,
  n_boards INTEGER NOT NULL
);

-- One row an inspection. `more` is JSON of fields that have no column of their own. The last block is kept on a serial's first inspection only, for the board as a whole.
CREATE TABLE boards (
  id ${identity},
  record TEXT NOT NULL UNIQUE,
  serial TEXT NOT NULL,
  panel TEXT,
  position INTEGER,
  operator TEXT,
  context_id BIGINT NOT NULL REFERENCES contexts (id),
  digests_id BIGINT NOT NULL REFERENCES digests (id),
  own_file INTEGER NOT NULL,
  file_id BIGINT REFERENCES files (id),
  run_id TEXT REFERENCES runs (id),
  export_digest TEXT NOT NULL,
  inspected_at TEXT NOT NULL,
  inspected_us BIGINT NOT NULL,
  started_at TEXT NOT NULL,
  finished_at TEXT NOT NULL,
  verdict TEXT NOT NULL,
  n_joints INTEGER NOT NULL,
  n_good INTEGER NOT NULL,
  n_bridged INTEGER NOT NULL,
  n_open INTEGER NOT NULL,
  n_starved INTEGER NOT NULL,
  n_head_in_pillow INTEGER NOT NULL,
  n_undecided INTEGER NOT NULL,
  n_review INTEGER NOT NULL,
  n_packages INTEGER NOT NULL,
  fpy DOUBLE PRECISION NOT NULL,
  dpmo DOUBLE PRECISION NOT NULL,
  cause TEXT,
  cause_evidence TEXT NOT NULL,
  disposition TEXT NOT NULL,
  missing TEXT NOT NULL,
  more TEXT NOT NULL,
  inspection_no INTEGER NOT NULL,
  first_id BIGINT REFERENCES boards (id),
  n_inspections INTEGER NOT NULL,
  final TEXT NOT NULL,
  n_confirmed INTEGER NOT NULL,
  n_false_calls INTEGER NOT NULL,
  n_cleared INTEGER NOT NULL,
  n_escapes INTEGER NOT NULL
);
CREATE INDEX boards_serial ON boards (serial);
CREATE INDEX boards_context ON boards (context_id, inspected_us);

CREATE TABLE packages (
  board_id BIGINT NOT NULL REFERENCES boards (id),
  site_id BIGINT NOT NULL REFERENCES sites (id),
  seat INTEGER NOT NULL,
  offset_x_um DOUBLE PRECISION,
  offset_y_um DOUBLE PRECISION,
  rotation_deg DOUBLE PRECISION,
  warpage_um DOUBLE PRECISION,
  stack_height_um DOUBLE PRECISION,
  cause TEXT,
  cause_evidence TEXT NOT NULL,
  more TEXT NOT NULL,
  PRIMARY KEY (board_id, site_id)
) ${clustered};

CREATE TABLE interfaces (
  board_id BIGINT NOT NULL REFERENCES boards (id),
  interface TEXT NOT NULL,
  site_id BIGINT NOT NULL REFERENCES sites (id),
  n_good INTEGER NOT NULL,
  n_bridged INTEGER NOT NULL,
  n_open INTEGER NOT NULL,
  n_starved INTEGER NOT NULL,
  n_head_in_pillow INTEGER NOT NULL,
  n_undecided INTEGER NOT NULL,
  n_review INTEGER NOT NULL,
  passed INTEGER NOT NULL,
  diameter_um DOUBLE PRECISION,
  volume_ratio DOUBLE PRECISION,
  volume_ratio_min DOUBLE PRECISION,
  void_fraction DOUBLE PRECISION,
  void_fraction_max DOUBLE PRECISION,
  standoff_um DOUBLE PRECISION,
  clearance_um_min DOUBLE PRECISION,
  final TEXT NOT NULL,
  n_confirmed INTEGER NOT NULL,
  n_false_calls INTEGER NOT NULL,
  n_cleared INTEGER NOT NULL,
  n_escapes INTEGER NOT NULL,
  PRIMARY KEY (board_id, interface, site_id)
) ${clustered};

-- Every joint that is not good and pass.
CREATE TABLE defects (
  board_id BIGINT NOT NULL REFERENCES boards (id),
  refdes TEXT NOT NULL,
  interface TEXT NOT NULL,
  ball TEXT NOT NULL,
  label TEXT,
  verdict TEXT NOT NULL,
  reason TEXT NOT NULL,
  p_good DOUBLE PRECISION,
  p_bridged DOUBLE PRECISION,
  p_open DOUBLE PRECISION,
  p_starved DOUBLE PRECISION,
  p_head_in_pillow DOUBLE PRECISION,
  x_um DOUBLE PRECISION,
  y_um DOUBLE PRECISION,
  dx_um DOUBLE PRECISION,
  dy_um DOUBLE PRECISION,
  diameter_um DOUBLE PRECISION,
  volume_ratio DOUBLE PRECISION,
  void_fraction DOUBLE PRECISION,
  standoff_um DOUBLE PRECISION,
  clearance_um DOUBLE PRECISION,
  flags BIGINT NOT NULL,
  PRIMARY KEY (board_id, refdes, interface, ball)
) ${clustered};

-- What people decided about single joints; nothing is ever changed here, a later decision follows an earlier one.
CREATE TABLE decisions (
  id ${identity},
  key TEXT NOT NULL UNIQUE,
  board_id BIGINT NOT NULL REFERENCES boards (id),
  refdes TEXT NOT NULL,
  interface TEXT NOT NULL,
  ball TEXT NOT NULL,
  state TEXT NOT NULL,
  label TEXT,
  decided_by TEXT NOT NULL,
  decided_at TEXT NOT NULL,
  decided_us BIGINT NOT NULL,
  note TEXT NOT NULL
);
CREATE INDEX decisions_board ON decisions (board_id);

CREATE TABLE quarantine (
  key TEXT NOT NULL PRIMARY KEY,
  path TEXT NOT NULL,
  reason TEXT NOT NULL,
  run_id TEXT REFERENCES runs (id),
  seen_at TEXT NOT NULL
);

-- Sums over first inspections by context and level, kept by every write; a name that the level does not have is empty.
CREATE TABLE rollups (
  context_id BIGINT NOT NULL REFERENCES contexts (id),
  level TEXT NOT NULL,
  refdes TEXT NOT NULL,
  part TEXT NOT NULL,
  construction TEXT NOT NULL,
  interface TEXT NOT NULL,
  boards BIGINT NOT NULL,
  passed BIGINT NOT NULL,
  joints BIGINT NOT NULL,
  opportunities BIGINT NOT NULL,
  reinspected BIGINT NOT NULL,
  final_passed BIGINT NOT NULL,
  pending BIGINT NOT NULL,
  n_good BIGINT NOT NULL,
  n_bridged BIGINT NOT NULL,
  n_open BIGINT NOT NULL,
  n_starved BIGINT NOT NULL,
  n_head_in_pillow BIGINT NOT NULL,
  n_undecided BIGINT NOT NULL,
  n_review BIGINT NOT NULL,
  n_confirmed BIGINT NOT NULL,
  n_false_calls BIGINT NOT NULL,
  n_cleared BIGINT NOT NULL,
  n_escapes BIGINT NOT NULL,
  PRIMARY KEY (context_id, level, refdes, part, construction, interface)
) ${clustered};

-- The outbox: what must reach the line's systems, kept until it did.
CREATE TABLE messages (
  seq ${identity},
  id TEXT NOT NULL UNIQUE,
  record TEXT,
  kind TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at TEXT NOT NULL,
  delivered_at TEXT,
  attempts INTEGER NOT NULL,
  claimed_by TEXT,
  claimed_until_us BIGINT,
  last_error TEXT
);
CREATE INDEX messages_waiting ON messages (seq) WHERE delivered_at IS NULL;

-- The same with all names spelled out, for people.
CREATE VIEW board_records AS
SELECT b.id AS board_id, b.record, b.serial, b.panel, b.position, c.product, c.lot, c.work_order, c.line, c.station, b.operator,
  c.day, c.recipe, c.recipe_revision, r.digest AS recipe_digest, b.inspected_at, b.started_at, b.finished_at, b.verdict,
  b.n_joints, b.n_good, b.n_bridged, b.n_open, b.n_starved, b.n_head_in_pillow, b.n_undecided, b.n_review, b.n_packages,
  b.fpy, b.dpmo, b.cause, b.cause_evidence, b.disposition, b.missing, b.inspection_no, f.record AS first_record,
  f.n_inspections, f.final, b.export_digest, d.model_digest, d.limits_digest, d.software, b.run_id
FROM boards b
JOIN boards f ON f.id = b.first_id
JOIN contexts c ON c.id = b.context_id
JOIN digests d ON d.id = b.digests_id
JOIN recipes r ON r.id = d.recipe_id;

CREATE VIEW package_records AS
SELECT b.record, b.serial, b.inspection_no, c.day, c.lot, c.line, s.refdes, s.part, s.construction, s.warpage_limit_um,
  p.offset_x_um, p.offset_y_um, p.rotation_deg, p.warpage_um, p.stack_height_um, p.cause, p.cause_evidence
FROM packages p
JOIN boards b ON b.id = p.board_id
JOIN contexts c ON c.id = b.context_id
JOIN sites s ON s.id = p.site_id;

CREATE VIEW interface_records AS
SELECT b.record, b.serial, b.inspection_no, c.day, c.lot, c.line, s.refdes, s.construction, i.interface,
  i.n_good, i.n_bridged, i.n_open, i.n_starved, i.n_head_in_pillow, i.n_undecided, i.n_review, i.passed,
  i.diameter_um, i.volume_ratio, i.volume_ratio_min, i.void_fraction, i.void_fraction_max, i.standoff_um, i.clearance_um_min
FROM interfaces i
JOIN boards b ON b.id = i.board_id
JOIN contexts c ON c.id = b.context_id
JOIN sites s ON s.id = i.site_id;

CREATE VIEW defect_records AS
SELECT b.record, b.serial, b.inspection_no, c.day, c.lot, c.line, x.refdes, x.interface, x.ball, x.label, x.verdict, x.reason,
  x.p_good, x.p_bridged, x.p_open, x.p_starved, x.p_head_in_pillow, x.x_um, x.y_um, x.dx_um, x.dy_um, x.diameter_um,
  x.volume_ratio, x.void_fraction, x.standoff_um, x.clearance_um, x.flags
FROM defects x
JOIN boards b ON b.id = x.board_id
JOIN contexts c ON c.id = b.context_id;
