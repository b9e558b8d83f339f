//! What all nodes of a cluster share.

use std::fmt;

/// The secret that all nodes share. Its `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct ClusterSecret(Vec<u8>);

impl ClusterSecret {
    /// As calls between nodes and operators' requests carry it: bytes of any kind become text that
    /// a header can carry.
    pub(crate) fn header_text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(path: &str) -> Result<Self, String> {
        const LEAST_BYTES: usize = 16;
        // Metadata first: opening a pipe would wait for its writer.
        let metadata = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
        if !metadata.is_file() {
            return Err(format!("{path} is not a file"));
        }
        let mut secret = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        while secret.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            secret.truncate(secret.len() - 1);
        }
        if secret.len() < LEAST_BYTES {
            let found = secret.len();
            return Err(format!("{path} has {found} bytes: allowed are {LEAST_BYTES} or more"));
        }
        Ok(Self(secret))
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}
