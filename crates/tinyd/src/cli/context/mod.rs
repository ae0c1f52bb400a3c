//! `tinyd context`: daemons by name.

pub(super) mod create;
pub(super) mod ls;
pub(super) mod rm;
pub(super) mod show;
pub(super) mod store;
pub(super) mod r#use;
