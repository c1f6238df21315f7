"""The ledger's tables, as the steps that made them. A step is never edited once it has been released: add another."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE groups (
        name TEXT PRIMARY KEY,
        state TEXT NOT NULL,                   -- collecting, due, done or quarantined
        stage TEXT NOT NULL,                   -- what is next: detect, convert, solve or image; '' when it has ended
        due REAL NOT NULL,                     -- not before this time
        reason TEXT NOT NULL DEFAULT '',       -- why it waits or was quarantined
        error_class TEXT NOT NULL DEFAULT '',  -- of the failure that it waits after
        arrived REAL NOT NULL,                 -- when its newest file came
        ended REAL,
        window TEXT NOT NULL,
        raw_bytes INTEGER NOT NULL DEFAULT 0,
        manifest_ns INTEGER NOT NULL DEFAULT 0,
        calibrator TEXT NOT NULL DEFAULT '',
        upgrade INTEGER NOT NULL DEFAULT 0,    -- an image is there; a better set may make a better one
        age_hours REAL,                        -- of the set that its image was calibrated with
        counted_from INTEGER NOT NULL DEFAULT 0, -- failed attempts after this id count
        trace_id TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX groups_open ON groups (state, stage) WHERE state IN ('collecting', 'due');
    -- Ask for what has not ended through this view: only in these very words is the index used.
    CREATE VIEW open_groups AS SELECT * FROM groups WHERE state IN ('collecting', 'due');
    CREATE INDEX groups_of_window ON groups (window);
    CREATE INDEX ended_groups ON groups (ended) WHERE ended IS NOT NULL;
    CREATE INDEX quarantined_groups ON groups (error_class) WHERE state = 'quarantined';

    CREATE TABLE windows (
        name TEXT PRIMARY KEY,
        state TEXT NOT NULL,                   -- due (an image is new), done or failed
        due REAL NOT NULL,
        since REAL NOT NULL,                   -- when the first image came that its mosaic does not have
        reason TEXT NOT NULL DEFAULT '',
        error_class TEXT NOT NULL DEFAULT '',
        counted_from INTEGER NOT NULL DEFAULT 0,
        ended REAL,
        trace_id TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX due_windows ON windows (due) WHERE state = 'due';
    CREATE INDEX failed_windows ON windows (name) WHERE state = 'failed';

    CREATE TABLE sets (
        name TEXT PRIMARY KEY,
        calibrator TEXT NOT NULL,
        observed REAL NOT NULL,
        passed INTEGER NOT NULL,
        modified_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX sets_observed ON sets (observed);

    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        unit TEXT NOT NULL,                    -- group or window
        rule TEXT NOT NULL,
        number INTEGER NOT NULL,
        started REAL NOT NULL,
        finished REAL NOT NULL,
        duration_s REAL NOT NULL,
        outcome TEXT NOT NULL,                 -- ok or failed
        error_class TEXT NOT NULL DEFAULT '',
        permanent INTEGER NOT NULL DEFAULT 0,
        error_type TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',
        log TEXT NOT NULL DEFAULT '',
        host TEXT NOT NULL DEFAULT '',
        pid INTEGER NOT NULL DEFAULT 0,
        trace_id TEXT NOT NULL DEFAULT '',
        counts INTEGER NOT NULL DEFAULT 1,     -- 0: it was stopped through no fault of its unit
        UNIQUE (unit, rule, number)
    );
    CREATE INDEX attempts_finished ON attempts (finished);
    CREATE INDEX failed_attempts ON attempts (unit, id) WHERE outcome = 'failed';

    CREATE TABLE calls (                       -- Snakemake calls that run now
        pid INTEGER PRIMARY KEY,
        lane TEXT NOT NULL,
        units TEXT NOT NULL,                   -- JSON list
        started REAL NOT NULL
    );

    CREATE TABLE alerts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        condition TEXT NOT NULL,
        subject TEXT NOT NULL,
        severity TEXT NOT NULL,
        message TEXT NOT NULL,
        value REAL,
        opened REAL NOT NULL,
        told REAL NOT NULL,                    -- when it was last sent
        seen REAL NOT NULL,                    -- when the condition last held
        resolved REAL,
        acknowledged REAL,
        acknowledged_by TEXT NOT NULL DEFAULT '',
        false_alarm INTEGER NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX open_alerts ON alerts (condition, subject) WHERE resolved IS NULL;
    CREATE INDEX alerts_opened ON alerts (opened);

    CREATE TABLE messages (                    -- what channels have to be told
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        channel TEXT NOT NULL,
        severity TEXT NOT NULL,
        title TEXT NOT NULL,
        body TEXT NOT NULL,
        created REAL NOT NULL,
        due REAL NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT '',
        sent REAL
    );
    CREATE INDEX unsent_messages ON messages (channel, id) WHERE sent IS NULL;
    CREATE INDEX messages_created ON messages (created);

    CREATE TABLE notes (                       -- single values that outlive a runner
        name TEXT PRIMARY KEY,
        value REAL NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    -- Of how many things of one kind a message tells.
    ALTER TABLE messages ADD COLUMN gathered INTEGER NOT NULL DEFAULT 1;
    """,
    """
    -- Whose fault a failure was: file, group, set, machine, workflow or settings; '' where it succeeded.
    ALTER TABLE attempts ADD COLUMN blame TEXT NOT NULL DEFAULT '';
    """,
)
