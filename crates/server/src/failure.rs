//! What can go wrong past the parameters, and the one table of codes.

use hyper::StatusCode;
use quorate_core::key::GroupKey;
use quorate_raft::error::{ProposeError, ReadError};

/// Why an operation was not done, whatever the dialect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Compare-and-set: the stored md5 is another one.
    #[error("the stored md5 is another one")]
    CasMismatch,
    /// A descriptive field is over its limit.
    #[error("a descriptive field is too long")]
    FieldTooLong,
    /// A field without a limit of its own is longer than the reference's store takes.
    #[error("a field does not fit")]
    FieldDoesNotFit,
    /// A gray release was to be published.
    #[error("gray releases are not supported yet")]
    GrayRelease,
    /// Apply refused a repeat that it no longer remembers: the first may have been written.
    #[error("superseded: {key}")]
    Superseded {
        /// The configuration that was to be written.
        key: GroupKey,
    },
    /// The write did not end with a reply.
    #[error("write of {key}")]
    Propose {
        /// The configuration that was to be written.
        key: GroupKey,
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
            Self::CasMismatch | Self::FieldDoesNotFit => StatusCode::INTERNAL_SERVER_ERROR,
            Self::FieldTooLong => StatusCode::BAD_REQUEST,
            Self::GrayRelease => StatusCode::NOT_IMPLEMENTED,
            Self::Superseded { .. }
            | Self::Propose { .. }
            | Self::Read(_)
            | Self::BodiesInFlight => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The text for the client; `None` where the reference answers `false` alone.
    pub(crate) fn text(&self) -> Option<String> {
        let text = match self {
            Self::CasMismatch | Self::FieldTooLong | Self::FieldDoesNotFit => return None,
            Self::GrayRelease => "gray releases are not supported yet".to_owned(),
            Self::Superseded { key } => format!("data publish outcome unknown, key={key}"),
            Self::Propose { key, cause } => propose_text(key, cause),
            Self::Read(cause) => read_text(cause),
            Self::BodiesInFlight => "too many request bytes in flight, try again later".to_owned(),
        };
        Some(text)
    }
}

fn propose_text(key: &GroupKey, cause: &ProposeError) -> String {
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
            let failure = Failure::Propose { key: key(), cause };
            assert_eq!(failure.text().as_deref(), Some(want));
            assert_eq!(failure.status(), 503);
        }
        assert_eq!(
            (Failure::CasMismatch.status().as_u16(), Failure::CasMismatch.text()),
            (500, None)
        );
    }
}
