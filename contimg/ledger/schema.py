"""The ledger's tables, as the steps that made them. A step is never edited once it has been released: add another.

Going back to the release before works as long as steps only expand: new tables and indexes, columns with a default
behind those of any table but `tallies` and `counts` (which triggers fill by position). A step that contracts raises
`WORKS_WITH`.
"""

from __future__ import annotations

REALTIME_FACTORS = (0.01, 0.02, 0.05, 0.1, 0.18, 0.25, 0.5, 1.0, 2.0, 5.0)
GROUP_S = 309.237648
"""Length (s) of a group: 24 integrations of 12.884902 s."""
DURATIONS_S = tuple(
    sorted(
        {1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400}
        | {round(factor * GROUP_S, 3) for factor in REALTIME_FACTORS}
    )
)
"""Bounds (s) of the durations that are counted together: the metrics' buckets. Changed only by another step."""
_BEYOND_S = 1e9


WORKS_WITH = 7
"""Least number of steps that a contimg knows which can work with the ledger that all steps make."""


def _at_most(duration: str) -> str:
    """SQL: least bound that a duration does not pass."""
    steps = " ".join(f"WHEN {duration} <= {bound} THEN {bound}" for bound in DURATIONS_S)
    return f"CASE {steps} ELSE {_BEYOND_S} END"


def _how_ended(state: str, error_class: str) -> str:
    """SQL: how a group ended: imaged, set aside for its unusable data, or given up for a person."""
    given_up = f"CASE {error_class} WHEN 'corrupt_input' THEN 'unusable' ELSE 'given_up' END"
    return f"CASE {state} WHEN 'done' THEN 'imaged' ELSE {given_up} END"


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
    f"""
    -- Counts for metrics: they only grow, so that old attempts can be dropped.
    CREATE TABLE tallies (
        what TEXT NOT NULL,                    -- a rule, arrival_to_image, or recovery: from a passing failure
        outcome TEXT NOT NULL,
        error_class TEXT NOT NULL,
        at_most_s REAL NOT NULL,               -- upper bound of the durations counted here; see DURATIONS_S
        count INTEGER NOT NULL,
        seconds REAL NOT NULL,                 -- their sum
        last_s REAL NOT NULL,                  -- the newest of them, its trace and its end
        last_trace_id TEXT NOT NULL,
        last_at REAL NOT NULL,
        PRIMARY KEY (what, outcome, error_class, at_most_s)
    ) WITHOUT ROWID;
    CREATE TRIGGER attempt_tallied AFTER INSERT ON attempts WHEN NEW.counts BEGIN
        INSERT INTO tallies VALUES (
            NEW.rule, NEW.outcome, NEW.error_class, {_at_most("NEW.duration_s")},
            1, NEW.duration_s, NEW.duration_s, NEW.trace_id, NEW.finished
        )
        ON CONFLICT DO UPDATE SET count = count + 1, seconds = seconds + excluded.seconds,
            last_s = excluded.last_s, last_trace_id = excluded.last_trace_id, last_at = excluded.last_at;
    END;
    CREATE TRIGGER first_image_tallied AFTER INSERT ON attempts
        WHEN NEW.rule = 'image' AND NEW.outcome = 'ok' AND NOT EXISTS (
            SELECT 1 FROM attempts
            WHERE unit = NEW.unit AND rule = 'image' AND outcome = 'ok' AND number != NEW.number
        )
    BEGIN
        INSERT INTO tallies
        SELECT 'arrival_to_image', 'ok', '', {_at_most("(NEW.finished - arrived)")},
            1, NEW.finished - arrived, NEW.finished - arrived, NEW.trace_id, NEW.finished
        FROM groups WHERE name = NEW.unit AND arrived > 0
        ON CONFLICT DO UPDATE SET count = count + 1, seconds = seconds + excluded.seconds,
            last_s = excluded.last_s, last_trace_id = excluded.last_trace_id, last_at = excluded.last_at;
    END;
    INSERT INTO tallies
        SELECT rule, outcome, error_class, {_at_most("duration_s")}, count(*), sum(duration_s),
            duration_s, trace_id, max(finished)
        FROM attempts WHERE counts GROUP BY 1, 2, 3, 4;

    -- Load of the machine, each minute while a runner works: its heartbeat, too.
    CREATE TABLE samples (
        at REAL PRIMARY KEY,
        cpu_percent REAL NOT NULL,
        memory_percent REAL NOT NULL,
        io_percent REAL NOT NULL,              -- of the time in which the data root's disk was busy
        disk_free_bytes INTEGER NOT NULL,
        tmpfs_used_bytes INTEGER NOT NULL,
        queue INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE silences (                    -- alerts that are not sent for a while
        id TEXT PRIMARY KEY,
        matchers TEXT NOT NULL,                -- JSON: name, value, isRegex, isEqual of each
        starts REAL NOT NULL,
        ends REAL NOT NULL,
        created_by TEXT NOT NULL,
        comment TEXT NOT NULL,
        updated REAL NOT NULL
    ) WITHOUT ROWID;
    """,  # noqa: S608
    """
    CREATE TABLE outbox (                      -- what has to be done outside the ledger, kept until it was done
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,                    -- name of an instruction
        unit TEXT NOT NULL,
        content TEXT NOT NULL                  -- JSON: its fields
    );
    """,
    """
    -- One incident at a pager, from the opening of an alert to its end.
    ALTER TABLE messages ADD COLUMN incident TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN resolved INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE INDEX groups_arrived ON groups (arrived);
    """,
    f"""
    -- How often the cache served a job.
    ALTER TABLE attempts ADD COLUMN cache_hits INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN cache_misses INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE counts (                      -- counts for metrics that have no duration; they only grow
        what TEXT NOT NULL,                    -- cache, or ended: groups
        kind TEXT NOT NULL,                    -- hits, misses; imaged, unusable, given_up
        count INTEGER NOT NULL,
        PRIMARY KEY (what, kind)
    ) WITHOUT ROWID;
    CREATE TRIGGER cache_counted AFTER INSERT ON attempts WHEN NEW.cache_hits + NEW.cache_misses > 0 BEGIN
        INSERT INTO counts VALUES ('cache', 'hits', NEW.cache_hits), ('cache', 'misses', NEW.cache_misses)
        ON CONFLICT DO UPDATE SET count = count + excluded.count;
    END;
    CREATE TRIGGER group_end_counted BEFORE INSERT ON groups
        WHEN NEW.ended IS NOT NULL AND NOT EXISTS (SELECT 1 FROM groups WHERE name = NEW.name AND ended IS NOT NULL)
    BEGIN
        INSERT INTO counts VALUES ('ended', {_how_ended("NEW.state", "NEW.error_class")}, 1)
        ON CONFLICT DO UPDATE SET count = count + 1;
    END;
    INSERT INTO counts
        SELECT 'ended', {_how_ended("state", "error_class")}, count(*) FROM groups WHERE ended IS NOT NULL GROUP BY 2;
    CREATE TRIGGER recovery_tallied AFTER INSERT ON attempts WHEN NEW.outcome = 'ok' AND NEW.counts BEGIN
        INSERT INTO tallies
        SELECT 'recovery', 'ok', '', {_at_most("(NEW.finished - min(finished))")},
            1, NEW.finished - min(finished), NEW.finished - min(finished), NEW.trace_id, NEW.finished
        FROM attempts
        WHERE unit = NEW.unit AND rule = NEW.rule AND outcome = 'failed' AND counts AND NOT permanent
            AND error_class != 'missing_calibration' AND id > (
                SELECT coalesce(max(id), 0) FROM attempts
                WHERE unit = NEW.unit AND rule = NEW.rule AND outcome = 'ok' AND id < NEW.id
            )
        GROUP BY unit
        ON CONFLICT DO UPDATE SET count = count + 1, seconds = seconds + excluded.seconds,
            last_s = excluded.last_s, last_trace_id = excluded.last_trace_id, last_at = excluded.last_at;
    END;
    """,  # noqa: S608
    """
    -- Resources that a job used, and counts of them by rule: cpu (ms), read and written (bytes).
    ALTER TABLE attempts ADD COLUMN cpu_s REAL NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN peak_memory_mb INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN read_mb REAL NOT NULL DEFAULT 0;
    ALTER TABLE attempts ADD COLUMN written_mb REAL NOT NULL DEFAULT 0;
    CREATE TRIGGER resources_counted AFTER INSERT ON attempts WHEN NEW.cpu_s > 0 BEGIN
        INSERT INTO counts VALUES
            ('cpu', NEW.rule, CAST(1e3 * NEW.cpu_s AS INTEGER)),
            ('read', NEW.rule, CAST(1e6 * NEW.read_mb AS INTEGER)),
            ('written', NEW.rule, CAST(1e6 * NEW.written_mb AS INTEGER))
        ON CONFLICT DO UPDATE SET count = count + excluded.count;
    END;
    -- Shares of the machine that the runner and its jobs use.
    ALTER TABLE samples ADD COLUMN jobs_cpu_percent REAL NOT NULL DEFAULT 0;
    ALTER TABLE samples ADD COLUMN jobs_memory_percent REAL NOT NULL DEFAULT 0;
    """,
)
