//! tbd

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {}
