//! What must hold whatever happens: one file for each promise (docs/guarantees.md).

pub(crate) mod acknowledged;
pub(crate) mod converged;
pub(crate) mod held;
pub(crate) mod linearizable;
pub(crate) mod own_writes;
pub(crate) mod phantom;
pub(crate) mod replicas;
