//! `tinyd network`: networks of containers.

pub(super) mod create;
pub(super) mod delete;
pub(super) mod inspect;
pub(super) mod ls;
