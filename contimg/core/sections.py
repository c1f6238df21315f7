"""The sections of the settings: their keys, types, bounds and defaults, with what each of them means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from contimg.core.files import absolute

AbsolutePath = Annotated[Path, AfterValidator(absolute)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Refuses keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class Ingest(Section):
    """Which files make a group, and when a group is taken as it is."""

    complete_within_minutes: Positive = 15
    """Minutes after a group's last file arrived at which it is taken without the missing subbands."""
    min_subbands: int = Field(12, ge=1, le=16)
    """Fewest usable subbands with which a group is processed."""


class Staging(Section):
    """Folder, in a tmpfs, of Measurement Sets that are being written."""

    enabled: bool = True
    directory: AbsolutePath = Path("/dev/shm")  # noqa: S108
    safety_factor: Annotated[float, Field(ge=1)] = 2.0
    """Free room asked for, as a multiple of the expected size; with less, disk is used."""


class Flag(Section):
    """Flagging of RFI and bad data, and its gate."""

    rfi_sigma: Positive = 6.0
    """Threshold on the array's mean amplitude by time and channel, in robust standard deviations."""
    clip_sigma: Positive = 7.0
    """Threshold on each baseline's amplitudes, in robust standard deviations."""
    degraded_fraction: Fraction = 0.3
    """Flagged fraction above which a group's products are marked degraded."""
    max_fraction: Fraction = 0.8
    """Flagged fraction above which a group cannot be used."""


class Calibration(Section):
    """Calibrators, their sets, and the time for which a set serves."""

    catalogues: tuple[AbsolutePath, ...] = ()
    """The user's own calibrator lists: VLA calibrator manual text, or CSV."""
    min_apparent_flux_jy: Positive = 1.0
    """Least beam-weighted flux (Jy) for which a transit is solved."""
    max_blend_fraction: Fraction = 0.15
    """Largest share of the catalogued flux in the beam that a second source may have without being modelled."""
    validity_hours: Positive = 3.0
    """A set is active this long before and after its observation (h)."""
    nearest_within_hours: Positive = Field(6.0, json_schema_extra={"env": "CALIBRATOR_STALENESS_HOURS"})
    """Without an active set, the nearest one within this time (h) is used, with a warning."""
    stale_within_hours: Positive | None = None
    """Without such a set, the nearest good set within this time (h), marked stale; none: of any age."""
    auto_fallback: bool = Field(True, json_schema_extra={"env": "AUTO_CALIBRATOR_FALLBACK"})
    """False: a target without an active set waits for one."""
    upgrade_min_hours: Positive = 0.5
    """An image is made again with a better set only if its calibration's effective age falls by this much (h)."""
    refine_in_field: bool = True
    """With a sky catalogue: solve a target's phases on its own field, and keep that if its image is better for it."""
    max_field_phase_error_deg: Positive = 5.0
    """Gate of a field's gains: largest median error (deg) of a phase in 80 s, both predicted and measured."""
    request_webhook: SecretStr | None = None
    """An address that gets requests for a calibrator observation as JSON by POST."""
    field_iterations: int = Field(3, ge=0, le=5)
    """Rounds of solve, image, predict, with which the field's other sources enter the model."""
    min_snr: Positive = 5.0
    """Solutions below this signal-to-noise ratio are flagged."""
    max_flagged_solutions: Fraction = 0.4
    """Gate: largest flagged fraction of the solutions of antennas with data."""
    max_phase_scatter_deg: Positive = 20.0
    """Gate: largest residual phase scatter (deg) of the calibrated calibrator."""
    max_amplitude_scatter: Fraction = 0.3
    """Gate: largest residual amplitude scatter of the calibrated calibrator, as a fraction of its flux."""
    max_dead_antennas: Fraction = 0.3
    """Gate: largest fraction of the antennas with data that have no solution at all."""
    max_bandpass_roughness: Fraction = 0.3
    """Gate: largest scatter of the bandpass amplitudes from channel to channel, as a fraction."""

    @model_validator(mode="after")
    def _reach(self) -> Calibration:
        if self.nearest_within_hours < self.validity_hours:
            raise ValueError("nearest_within_hours must not be less than validity_hours")
        if self.stale_within_hours is not None and self.stale_within_hours < self.nearest_within_hours:
            raise ValueError("stale_within_hours must not be less than nearest_within_hours")
        return self


class Beam(Section):
    """The primary beam: power response of one dish."""

    model: Literal["airy", "gaussian", "cosine-tapered", "table"] = "airy"
    """cosine-tapered: (cos πx / (1 − 4x²))²; table: values of the file `table`."""
    fwhm_deg: Annotated[float, Field(gt=0.5, lt=10)] = 3.2
    """Full width at half maximum (deg) at `frequency_hz`; it goes as 1/frequency."""
    frequency_hz: Annotated[float, Field(gt=1e8, lt=1e11)] = 1.4e9
    table: AbsolutePath | None = None
    """HDF5 or FITS with power against radius, or l and m, and frequency."""

    @model_validator(mode="after")
    def _one_form(self) -> Beam:
        if (self.model == "table") != (self.table is not None):
            raise ValueError("model: table goes with a file named in table, and other models with none")
        return self


class Imaging(Section):
    """Imaging of a group."""

    imager: Literal["auto", "wsclean", "tclean"] = "auto"
    """auto: contimg's own, in memory; WSClean and CASA's tclean are there for comparison."""
    field_of_view_deg: Annotated[float, Field(gt=0, le=8)] = 3.5
    """Width of the image (deg)."""
    pixels_per_beam: Annotated[float, Field(ge=3, le=10)] = 4.0
    """Pixels across the expected synthesized beam."""
    robust: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """Briggs weighting."""
    max_iterations: int = Field(30000, ge=1)
    mask_sigma: Positive = 5.0
    """CLEAN masks: pixels above this many times the local noise are cleaned."""
    threshold_sigma: Positive = 1.0
    """Depth of CLEAN, in multiples of the local noise."""
    pb_cutoff: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Primary beam response below which the flux-corrected image is blank."""
    smearing_limit: Annotated[float, Field(gt=0, lt=0.1)] = 0.01
    """Largest loss of peak flux by averaging, at the half-power point of the beam."""

    @model_validator(mode="after")
    def _cleaned_below_the_mask(self) -> Imaging:
        if self.threshold_sigma > self.mask_sigma:
            raise ValueError("threshold_sigma must not be more than mask_sigma")
        return self


class SkyCatalogue(Section):
    """A catalogue of the sky that images are compared with and calibration models are made from."""

    path: AbsolutePath | None = None
    """CSV (ra_deg, dec_deg, flux_jy, optionally spectral_index) or an index (FITS); none: no comparison."""
    min_flux_jy: Positive = 0.01


class Quality(Section):
    """Gates on images: outside them an image is marked degraded."""

    max_noise_over_thermal: Positive = 2.0
    min_noise_over_thermal: Positive = 0.85
    """No receiver gives less noise than its own: fluxes or weights are wrong where an image has less."""
    min_dynamic_range: Positive = 50.0
    max_flux_scatter: Positive = 0.2
    """Largest median deviation of flux ratios to the catalogue from their median, over it."""
    max_position_offset_beams: Positive = 0.15


class Mosaic(Section):
    """Mosaics of the images of a window."""

    window_minutes: int = Field(60, ge=10, le=1440)
    """Length of a window (min); divides the day."""
    min_pb: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Primary beam response down to which an image enters the mosaic."""
    max_noise_over_expected: Positive = 1.5
    """Gate: noise of the mosaic over what the noise maps of its images make of it; above, it is marked degraded."""

    @model_validator(mode="after")
    def _divides(self) -> Mosaic:
        if 1440 % self.window_minutes:
            raise ValueError("window_minutes must divide the day (1440)")
        return self


class Limits(Section):
    """Limits of jobs. A job past its time limit is killed."""

    conversions: int = Field(2, ge=1, json_schema_extra={"env": "MAX_CONCURRENT_CONVERSIONS"})
    images: int = Field(4, ge=1, json_schema_extra={"env": "MAX_CONCURRENT_IMAGES"})
    parallel_imaging: bool = Field(True, json_schema_extra={"env": "PARALLEL_IMAGING"})
    """False: one image at a time; `images` is ignored."""
    threads: int = Field(2, ge=1)
    """Threads of one solving, imaging or mosaicking job."""
    mem_mb: int = Field(6000, ge=500)
    """Memory asked for by one such job (MB)."""
    convert_minutes: Positive = 20
    solve_minutes: Positive = 30
    image_minutes: Positive = 40
    mosaic_minutes: Positive = 40
    retain_minutes: Positive = 120
    backup_minutes: Positive = 60

    @property
    def image_jobs(self) -> int:
        """Images made at the same time."""
        return self.images if self.parallel_imaging else 1


class Runner(Section):
    """The streaming runner: `contimg run`."""

    poll_seconds: Positive = 5
    """Longest time (s) between two looks at what arrived; where the system tells of arrivals, it is seen at once."""
    stuck_minutes: Positive = Field(30, json_schema_extra={"env": "STUCK_JOB_TIMEOUT_MINUTES"})
    """A job whose processes use neither processor nor disk for this long (min) is killed and due again."""
    drain_minutes: Positive = 45
    """Asked to stop, the runner waits this long (min) for running jobs."""
    tmpfs_min_free_percent: Percent = Field(20, json_schema_extra={"env": "TMPFS_MIN_FREE_PERCENT"})
    """With less of the staging folder free, conversions run one at a time."""
    reserve_gb: Annotated[float, Field(ge=0)] = 5
    """Free space (GB) in the data root that jobs leave; a job that would take it waits."""
    memory_percent: Annotated[float, Field(gt=0, le=100)] = 75
    """Share of the machine's memory that jobs may ask for together."""
    mosaic_deadline_minutes: Positive = 120
    """A window whose groups have not all ended is combined this long (min) after its end."""
    summary_minutes: Positive = 15
    """Shortest time (min) between two summaries."""
    history_days: Positive = 90
    """Days for which the ledger keeps attempts and resolved alerts."""
    watch_settings: bool = True
    """The settings are read again when their file has changed; else only when asked (SIGHUP, the service)."""
    profile: AbsolutePath | None = None
    """A Snakemake profile, on this host or for Slurm; none: the project's own, `profiles/local`."""


class RetryRule(Section):
    """Retries of one class of failure."""

    retries: int | None = Field(None, ge=0)
    """None: `retry.max_attempts`."""
    delay_seconds: Positive = 60
    backoff: Literal["constant", "linear", "exponential"] = "exponential"
    """The nth delay is the first one, n times it, or 2^(n−1) times it."""


class Retry(Section):
    """Retries per group and class of failure; then a group whose own fault it is goes to quarantine."""

    max_attempts: int = Field(5, ge=0, json_schema_extra={"env": "MAX_RETRY_ATTEMPTS"})
    """Retries of every class that has no number of its own."""
    disk_full: RetryRule = RetryRule(retries=3, delay_seconds=300)
    casa_timeout: RetryRule = RetryRule(retries=5)
    memory_error: RetryRule = RetryRule(retries=2, delay_seconds=600, backoff="linear")
    corrupt_input: RetryRule = RetryRule(retries=0)
    missing_calibration: RetryRule = RetryRule(retries=10, delay_seconds=1800, backoff="constant")
    default: RetryRule = RetryRule()


Severity = Literal["info", "warning", "critical"]


class Channel(Section):
    """A place that alerts are sent to."""

    name: str
    url: SecretStr
    """In the form of the apprise library: slack://, mailto://, pagerduty://, json:// and many more."""
    min_severity: Severity = "warning"


class Levels(Section):
    """Thresholds of one condition; none: no alert of that severity."""

    warning: float | None = None
    critical: float | None = None


class Thresholds(Section):
    """Thresholds of the conditions of alerts."""

    calibration_age_hours: Levels = Levels(warning=3, critical=6)
    failures_percent: Levels = Levels(warning=10)
    """Of all attempts in the last hour."""
    conversion_failures_percent: Levels = Levels(critical=20)
    disk_free_gb: Levels = Levels(warning=200, critical=50)
    queue_groups: Levels = Levels(warning=50, critical=100)
    tmpfs_used_percent: Levels = Levels(critical=95)
    group_retries: Levels = Levels(warning=3)
    no_arrivals: Levels = Levels(warning=2, critical=6)
    """Hours since the last raw files came."""
    no_products: Levels = Levels(warning=1, critical=3)
    """Hours for which groups have waited while no image was made."""


class Alerts(Section):
    """Alerts: conditions, channels, repetition."""

    level: Severity = Field("warning", json_schema_extra={"env": "ALERT_LEVEL"})
    """Least severity that is sent; alerts below it are stored only."""
    thresholds: Thresholds = Thresholds()
    repeat_hours: Positive = 4
    """An alert that stays open and unacknowledged is sent again after this long (h)."""
    slack_webhook_url: SecretStr | None = Field(None, json_schema_extra={"env": "SLACK_WEBHOOK_URL"})
    critical_email: str | None = Field(None, json_schema_extra={"env": "ALERT_CRITICAL_EMAIL"})
    """Address that critical alerts are mailed to, through `mail_server`."""
    mail_server: SecretStr | None = None
    """In apprise's form, mailtos://user:password@server; none: the mail server of this machine."""
    webhook: SecretStr | None = Field(None, json_schema_extra={"env": "ALERT_WEBHOOK"})
    """An address that gets every alert as JSON by POST."""
    channels: tuple[Channel, ...] = ()
    """Further channels."""
    timeout_seconds: Positive = 20
    """Longest time (s) for one message."""
    heartbeat_url: SecretStr | None = None
    """Heartbeat: an address that is fetched at an interval while the runner is well."""
    heartbeat_minutes: Positive = 5
    api_url: str | None = None
    """The service's readiness probe; none: whether it answers is not looked at."""


class Retention(Section):
    """Retention: products leave the disks after their archived copy was read back; logs are deleted."""

    every_minutes: Positive = 60
    """Minutes between two runs of retention."""
    ms_days: Positive = Field(7, json_schema_extra={"env": "MS_RETENTION_DAYS"})
    """Age (days) up to which Measurement Sets, and raw groups, stay in any case."""
    image_days: Positive = Field(30, json_schema_extra={"env": "IMAGE_RETENTION_DAYS"})
    """Age (days) at which the images of a mosaic window go."""
    log_days: Positive = Field(14, json_schema_extra={"env": "LOG_RETENTION_DAYS"})
    """Age (days) at which logs and attempt records go."""
    min_free_gb: Positive = Field(100, json_schema_extra={"env": "MIN_FREE_DISK_GB"})
    """With less free space (GB), Measurement Sets go, oldest first, until there is as much."""
    raw_mark: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """With less free space than this share of min_free_gb even so, raw groups go too; 0: they never go."""


def _destination(value: str | None) -> str | None:
    """Check where copies go to: an absolute folder, or a remote named in rclone's own configuration."""
    if value is None or re.fullmatch(r"[\w.+@-]+:(?!//)[^:]*", value):
        return value
    if "://" in value or value.startswith(":"):
        raise ValueError("give a folder or NAME:PATH of a remote that rclone's own configuration describes")
    return str(Path(value).expanduser().absolute())


Destination = Annotated[str | None, AfterValidator(_destination)]


class Archive(Section):
    """Cold storage, from which what retention removed can be fetched."""

    destination: Destination = None
    """A folder outside the data root, or NAME:PATH of an rclone remote; none: only logs ever go."""
    timeout_minutes: Positive = 60
    """Longest time (min) for one transfer to or from a remote."""


class Backup(Section):
    """Snapshots of what cannot be made again from raw data."""

    every_hours: Positive = 24
    recent_days: Positive = 7
    """Sets, manifests and sidecars of the last days are in a snapshot; sets still in use are, whatever their age."""
    keep_days: Positive = 14
    """Days for which snapshots stay in the data root; the newest one stays for ever."""
    destination: Destination = None
    """A folder outside the data root, or NAME:PATH of an rclone remote, to which snapshots are sent."""
    timeout_minutes: Positive = 30
    """Longest time (min) for one transfer to or from a remote."""


class Cache(Section):
    """Parsed sky catalogues, in state/cache of the data root, shared by all jobs."""

    enabled: bool = Field(default=True, json_schema_extra={"env": "ENABLE_CACHING"})
    ttl_seconds: Positive = Field(default=3600, json_schema_extra={"env": "CACHE_TTL_SECONDS"})
    """Age (s) since their last use at which entries are removed."""
    max_mb: Positive = 500


class Logging(Section):
    """Log lines of runner, jobs and service."""

    format: Literal["text", "json"] = "text"


class Service(Section):
    """The HTTP service: `contimg serve`."""

    host: str = "127.0.0.1"
    """Address to listen on; other addresses than loopback open all pages to the network."""
    port: int = Field(8410, ge=1, le=65535)
    token: Annotated[SecretStr, Field(min_length=16)] | None = Field(None, json_schema_extra={"env": "API_TOKEN"})
    """Bearer token that every change over HTTP needs (16 characters or more); none: changes are refused."""
