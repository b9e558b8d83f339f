//! What can go wrong past the parameters, and the one table of codes.

use std::fmt;

use hyper::StatusCode;
use quorate_core::key::{GroupKey, NamespaceId};
use quorate_core::kind::gray::MAX_RELEASES;
use quorate_core::time::Revision;
use quorate_raft::error::{ProposeError, ReadError};

/// What a write was about.
#[derive(Debug)]
pub(crate) enum Subject {
    /// A configuration, or a release of it.
    Config(GroupKey),
    /// A namespace.
    Namespace(NamespaceId),
    /// Several configurations.
    Changes(usize),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(key) => key.fmt(f),
            Self::Namespace(id) => id.fmt(f),
            Self::Changes(count) => write!(f, "{count} changes"),
        }
    }
}

/// Why an operation was not done, whatever the dialect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Compare-and-set: the stored md5 is another one.
    #[error("the stored md5 is another one")]
    CasMismatch {
        /// Of an atomic change: which part refused it, from 1.
        part: u64,
    },
    /// It was to be created and is there.
    #[error("there is one already")]
    Exists {
        /// As above.
        part: u64,
    },
    /// It was to be changed and is not there.
    #[error("there is none")]
    Absent {
        /// As above.
        part: u64,
        /// Of the command that found it so.
        revision: Revision,
    },
    /// The configuration has as many gray releases as it may.
    #[error("gray config version is over max count :{MAX_RELEASES}")]
    TooManyReleases,
    /// The namespace holds configurations, or there are too many namespaces.
    #[error("in use")]
    InUse,
    /// The content is not as its namespace demands.
    #[error("{text}")]
    Invalid {
        /// Of an atomic change: which part, from 1.
        part: u64,
        /// What is wrong.
        text: String,
    },
    /// Some member of the cluster cannot apply this yet.
    #[error("feature level {wanted} is wanted, the cluster is at {has}")]
    FeatureLevel {
        /// Level of the command.
        wanted: u32,
        /// Level of the cluster.
        has: u32,
    },
    /// A descriptive field is over its limit.
    #[error("a descriptive field is too long")]
    FieldTooLong,
    /// A field without a limit of its own is longer than the reference's store takes.
    #[error("a field does not fit")]
    FieldDoesNotFit,
    /// Apply refused a repeat that it no longer remembers: the first may have been written.
    #[error("superseded: {subject}")]
    Superseded {
        /// What was to be written.
        subject: Subject,
    },
    /// The write did not end with a reply.
    #[error("write of {subject}")]
    Propose {
        /// What was to be written.
        subject: Subject,
        /// Why.
        #[source]
        cause: ProposeError,
    },
    /// The read may not be answered from this node's state.
    #[error("read")]
    Read(#[source] ReadError),
    /// The bodies of all requests together are as large as this node holds.
    #[error("too many request bytes in flight")]
    BodiesInFlight,
}

impl Failure {
    /// The HTTP status.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::CasMismatch { .. } | Self::FieldDoesNotFit => StatusCode::INTERNAL_SERVER_ERROR,
            Self::FieldTooLong | Self::TooManyReleases | Self::InUse | Self::Invalid { .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::Exists { .. } => StatusCode::GONE,
            Self::Absent { .. } => StatusCode::NOT_FOUND,
            Self::FeatureLevel { .. }
            | Self::Superseded { .. }
            | Self::Propose { .. }
            | Self::Read(_)
            | Self::BodiesInFlight => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Of an atomic change: which part refused it, from 1; else 0.
    pub(crate) const fn part(&self) -> u64 {
        match self {
            Self::CasMismatch { part }
            | Self::Exists { part }
            | Self::Absent { part, .. }
            | Self::Invalid { part, .. } => *part,
            Self::TooManyReleases
            | Self::InUse
            | Self::FeatureLevel { .. }
            | Self::FieldTooLong
            | Self::FieldDoesNotFit
            | Self::Superseded { .. }
            | Self::Propose { .. }
            | Self::Read(_)
            | Self::BodiesInFlight => 0,
        }
    }

    /// The text for the client; `None` where the reference answers `false` alone.
    pub(crate) fn text(&self) -> Option<String> {
        let text = match self {
            Self::CasMismatch { .. }
            | Self::FieldTooLong
            | Self::FieldDoesNotFit
            | Self::TooManyReleases => return None,
            Self::Exists { .. } | Self::Absent { .. } | Self::InUse | Self::Invalid { .. } => {
                self.to_string()
            }
            Self::FeatureLevel { .. } => {
                "not before all members of the cluster are of this release".to_owned()
            }
            Self::Superseded { subject } => format!("data publish outcome unknown, key={subject}"),
            Self::Propose { subject, cause } => propose_text(subject, cause),
            Self::Read(cause) => read_text(cause),
            Self::BodiesInFlight => "too many request bytes in flight, try again later".to_owned(),
        };
        Some(text)
    }
}

fn propose_text(key: &Subject, cause: &ProposeError) -> String {
    match cause {
        ProposeError::NoLeader => "no leader".to_owned(),
        ProposeError::Overloaded { .. } => {
            format!("too many writes in progress, data not published, key={key}")
        }
        ProposeError::DiskFull => format!("disk full, data not published, key={key}"),
        ProposeError::NoMajority { .. } => {
            format!("data publish failed, caused failed to notify majority, key={key}")
        }
        ProposeError::OutcomeUnknown { .. } => {
            format!("data publish outcome unknown, key={key}")
        }
        ProposeError::Stopped => {
            format!("node is stopping, data publish outcome unknown, key={key}")
        }
    }
}

fn read_text(cause: &ReadError) -> String {
    match cause {
        ReadError::NoLeader { .. } => "no leader confirmed the read".to_owned(),
        ReadError::Behind { wanted, applied, .. } => {
            format!("revision {wanted} not reached, this node is at {applied}")
        }
        ReadError::Stopped => "node is stopping".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quorate_core::key::{DataId, Group, NamespaceId};

    use super::*;

    #[test]
    fn writes_tell_unknown_from_failed() {
        let key = || {
            GroupKey::new(
                &NamespaceId::public(),
                &Group::parse("G").unwrap(),
                &DataId::parse("d").unwrap(),
            )
        };
        let waited = Duration::from_secs(5);
        for (cause, want) in [
            (ProposeError::NoLeader, "no leader"),
            (
                ProposeError::Overloaded { limit: 1 },
                "too many writes in progress, data not published, key=d+G+public",
            ),
            (ProposeError::DiskFull, "disk full, data not published, key=d+G+public"),
            (
                ProposeError::NoMajority { waited },
                "data publish failed, caused failed to notify majority, key=d+G+public",
            ),
            (
                ProposeError::OutcomeUnknown { waited },
                "data publish outcome unknown, key=d+G+public",
            ),
            (
                ProposeError::Stopped,
                "node is stopping, data publish outcome unknown, key=d+G+public",
            ),
        ] {
            let failure = Failure::Propose { subject: Subject::Config(key()), cause };
            assert_eq!(failure.text().as_deref(), Some(want));
            assert_eq!(failure.status(), 503);
        }
        assert_eq!(
            (
                Failure::CasMismatch { part: 0 }.status().as_u16(),
                Failure::CasMismatch { part: 0 }.text(),
            ),
            (500, None)
        );
    }
}
