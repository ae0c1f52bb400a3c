//! `tinyd system`: the daemon, and all that it keeps.

pub(super) mod check;
pub(super) mod df;
pub(super) mod prune;
