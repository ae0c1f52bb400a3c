//! The daemon as a whole: facts, what is kept and how much of it somebody needs, and whether it is as it should be.

mod check;
mod df;
mod info;
mod prune;

pub(crate) use self::{check::check, df::df, info::info, prune::prune};
