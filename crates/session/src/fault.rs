//! What can go wrong with a stream, as a closed set.
//!
//! A [`Code`] fixes type, severity, whether trying again can help, and the status a client gets while a status
//! can still be sent. A [`Fault`] is one occurrence. An [`ErrorEvent`] is what a client is told about it; how it
//! looks on a wire is a dialect's business, not this module's.
//!
//! Source: the project's design, section 3; the fields are those of its standard error.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The kind of a fault: `type` on the wire and in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong.
    Validation,
    /// The request was understood and refused.
    Business,
    /// Something broke.
    System,
    /// Something took too long.
    Timeout,
    /// Too much at once.
    RateLimit,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [Self::Validation, Self::Business, Self::System, Self::Timeout, Self::RateLimit];

    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Business => "business",
            Self::System => "system",
            Self::Timeout => "timeout",
            Self::RateLimit => "rate_limit",
        }
    }

    /// Reads the wire form.
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How bad it is: `severity` on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The stream goes on.
    Warning,
    /// The stream ended.
    Error,
    /// The stream ended and so will the next one.
    Fatal,
}

impl Severity {
    /// The wire form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

macro_rules! codes {
    ($( $(#[$doc:meta])* $name:ident = $wire:literal, $kind:ident, $severity:ident, $recoverable:literal, $status:literal, $message:literal; )*) => {
        /// The closed set of error codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $( $(#[$doc])* $name, )* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[ $( Code::$name, )* ];

            /// The wire form: `code` in events, a metric label.
            pub const fn as_str(self) -> &'static str { match self { $( Self::$name => $wire, )* } }

            /// Its type, unless an upstream's report says otherwise.
            pub const fn kind(self) -> Kind { match self { $( Self::$name => Kind::$kind, )* } }

            /// Its severity.
            pub const fn severity(self) -> Severity { match self { $( Self::$name => Severity::$severity, )* } }

            /// Whether the same request may succeed later.
            pub const fn recoverable(self) -> bool { match self { $( Self::$name => $recoverable, )* } }

            /// The HTTP status while one can still be sent.
            pub const fn status(self) -> u16 { match self { $( Self::$name => $status, )* } }

            /// What a person is told. Names no address and nothing of the request.
            pub const fn message(self) -> &'static str { match self { $( Self::$name => $message, )* } }
        }
    };
}

codes! {
    /// The request cannot be understood.
    InvalidRequest = "invalid_request", Validation, Error, false, 400, "The request is not valid.";
    /// The request's body or headers are over a limit.
    RequestTooLarge = "request_too_large", Validation, Error, false, 413, "The request is larger than this proxy accepts.";
    /// No such session, or somebody else's: the answer is the same.
    SessionNotFound = "session_not_found", Validation, Error, false, 404, "There is no such session.";
    /// Events the client asks for are gone.
    SessionGap = "session_gap", System, Warning, true, 410, "Some events of this stream can no longer be replayed.";
    /// A 4xx of the upstream, passed on.
    UpstreamRejected = "upstream_rejected", Business, Error, false, 400, "The upstream refused the request.";
    /// The upstream reported an error inside its stream or a 200.
    UpstreamError = "upstream_error", System, Error, true, 502, "The upstream reported an error.";
    /// The upstream said 429.
    RateLimited = "rate_limited", RateLimit, Error, true, 429, "The upstream is limiting the rate of requests.";
    /// This proxy is at a limit.
    Overloaded = "overloaded", RateLimit, Error, true, 503, "This proxy is at capacity.";
    /// No connection could be made.
    UpstreamUnreachable = "upstream_unreachable", System, Error, true, 502, "The upstream cannot be reached.";
    /// The connection broke.
    UpstreamReset = "upstream_reset", System, Error, true, 502, "The upstream broke the connection.";
    /// The body ended without the dialect's terminator.
    UpstreamTruncated = "upstream_truncated", System, Error, true, 502, "The upstream ended the stream before it was complete.";
    /// A 5xx of the upstream.
    UpstreamUnavailable = "upstream_unavailable", System, Error, true, 502, "The upstream failed to answer.";
    /// Something else than an event stream came back.
    BadContentType = "bad_content_type", System, Error, false, 502, "The upstream answered with something else than an event stream.";
    /// One line or event was over the cap.
    EventTooLarge = "event_too_large", System, Error, false, 502, "The upstream sent an event larger than this proxy accepts.";
    /// No connection in time.
    ConnectTimeout = "connect_timeout", Timeout, Error, true, 504, "Connecting to the upstream took too long.";
    /// No response head in time.
    HeadTimeout = "head_timeout", Timeout, Error, true, 504, "The upstream took too long to answer.";
    /// No first event in time.
    FirstEventTimeout = "first_event_timeout", Timeout, Error, true, 504, "The upstream took too long to send its first event.";
    /// No further event in time.
    IdleTimeout = "idle_timeout", Timeout, Error, true, 504, "The upstream stopped sending events.";
    /// The whole stream took too long.
    TotalTimeout = "total_timeout", Timeout, Error, true, 504, "The stream took longer than allowed.";
    /// The replica that read the upstream died.
    OwnerLost = "owner_lost", System, Error, true, 503, "The process that read the upstream is gone.";
    /// This process is going away.
    Draining = "draining", System, Error, true, 503, "This proxy is shutting down.";
    /// The store cannot be reached.
    StoreUnavailable = "store_unavailable", System, Error, true, 503, "The session store is unavailable.";
    /// A defect of this proxy.
    Internal = "internal", System, Fatal, false, 500, "This proxy failed.";
}

impl Code {
    /// The `timeout` stages, for the metric that counts them.
    pub const fn stage(self) -> Option<&'static str> {
        match self {
            Self::ConnectTimeout => Some("connect"),
            Self::HeadTimeout => Some("head"),
            Self::FirstEventTimeout => Some("first_event"),
            Self::IdleTimeout => Some("idle"),
            Self::TotalTimeout => Some("total"),
            _ => None,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an upstream said about its own failure. Meant for the caller, who asked that upstream; never logged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The vendor's own type, such as `rate_limit_error`.
    pub kind: Option<String>,
    /// The vendor's own code, such as `context_length_exceeded`.
    pub code: Option<String>,
    /// The vendor's message.
    pub message: Option<String>,
    /// An app's own trace, shown in development mode only.
    pub traceback: Option<String>,
}

/// One occurrence of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which of the closed set.
    pub code: Code,
    /// Differs from the code's own for `upstream_error` only.
    pub kind: Kind,
    /// Differs from the code's own for `upstream_error` only.
    pub severity: Severity,
    /// Differs from the code's own for `upstream_error` only.
    pub recoverable: bool,
    /// The status while one can be sent.
    pub status: u16,
    /// What a person is told.
    pub message: Cow<'static, str>,
    /// How long the upstream asked to wait.
    pub retry_after: Option<Duration>,
    /// The upstream's own words.
    pub report: Option<Box<Report>>,
    /// What happened inside, for logs and development mode only.
    pub cause: Option<Cow<'static, str>>,
}

impl Fault {
    /// A fault as its code describes it.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            kind: code.kind(),
            severity: code.severity(),
            recoverable: code.recoverable(),
            status: code.status(),
            message: Cow::Borrowed(code.message()),
            retry_after: None,
            report: None,
            cause: None,
        }
    }

    /// With another message. It must name no secret, no address and nothing of the request.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With the inner cause, for logs and development mode.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With the time to wait before another try.
    #[must_use]
    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// An error that the upstream reported itself. Its type decides whether trying again can help.
    pub fn reported(kind: Kind, recoverable: bool, report: Report) -> Self {
        let mut fault = Self::new(Code::UpstreamError);
        fault.kind = kind;
        fault.recoverable = recoverable;
        fault.status = match kind {
            Kind::Validation => 400,
            Kind::RateLimit => 429,
            Kind::Timeout => 504,
            Kind::Business | Kind::System => 502,
        };
        if let Some(message) = &report.message {
            fault.message = Cow::Owned(message.clone());
        }
        fault.report = Some(Box::new(report));
        fault
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.as_str())
    }
}

impl std::error::Error for Fault {}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The upstream's answer is whole.
    Completed,
    /// It is not; the last event before the seal says so to the client.
    Failed(Box<Fault>),
}

impl End {
    /// The fault, if it is one.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Completed => None,
            Self::Failed(fault) => Some(fault),
        }
    }
}

/// What a client is told: the standard error of the design.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorEvent {
    /// `type`.
    pub kind: Kind,
    /// `severity`.
    pub severity: Severity,
    /// `message`.
    pub message: Cow<'static, str>,
    /// `code`.
    pub code: Code,
    /// `recoverable`.
    pub recoverable: bool,
    /// `request_id`: of the request that began the session.
    pub request_id: String,
    /// `retry_after_ms`: when to come back, in milliseconds; absent where coming back cannot help.
    pub retry_after_ms: Option<u64>,
    /// The upstream's own `code` and `type`, where it reported the error.
    pub upstream: Option<Box<Report>>,
    /// `traceback`: development mode only.
    pub traceback: Option<String>,
}

impl ErrorEvent {
    /// What to say about `fault`. `retry_after` is used where the fault itself names no time and is recoverable;
    /// `development` lets inner causes out.
    pub fn new(fault: &Fault, request_id: &str, retry_after: Duration, development: bool) -> Self {
        let wait = fault.retry_after.unwrap_or(retry_after);
        let traceback = development
            .then(|| {
                let app = fault.report.as_ref().and_then(|report| report.traceback.clone());
                app.or_else(|| fault.cause.as_ref().map(|cause| cause.clone().into_owned()))
            })
            .flatten();
        Self {
            kind: fault.kind,
            severity: fault.severity,
            message: fault.message.clone(),
            code: fault.code,
            recoverable: fault.recoverable,
            request_id: request_id.to_owned(),
            retry_after_ms: fault.recoverable.then(|| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            upstream: fault.report.clone(),
            traceback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_has_its_own_wire_form() {
        let wires: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(wires.len(), Code::ALL.len());
    }

    #[test]
    fn only_timeouts_have_a_stage() {
        for code in Code::ALL {
            assert_eq!(code.stage().is_some(), code.kind() == Kind::Timeout, "{code}");
        }
    }

    #[test]
    fn a_cause_is_told_in_development_mode_only() {
        let fault = Fault::new(Code::UpstreamReset).cause("connection reset by 10.0.0.7");
        let told = ErrorEvent::new(&fault, "r1", Duration::from_secs(1), false);
        assert_eq!((told.traceback, told.retry_after_ms), (None, Some(1000)));
        let told = ErrorEvent::new(&fault, "r1", Duration::from_secs(1), true);
        assert_eq!(told.traceback.as_deref(), Some("connection reset by 10.0.0.7"));
    }

    #[test]
    fn what_cannot_recover_names_no_time_to_come_back() {
        let told = ErrorEvent::new(&Fault::new(Code::EventTooLarge), "r1", Duration::from_secs(1), false);
        assert_eq!(told.retry_after_ms, None);
    }

    #[test]
    fn a_reported_rate_limit_gets_the_status_sdks_retry_on() {
        let fault = Fault::reported(Kind::RateLimit, true, Report::default());
        assert_eq!((fault.code, fault.status), (Code::UpstreamError, 429));
    }
}
