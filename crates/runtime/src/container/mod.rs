//! Containers of the OCI command line: their records on disk, and one file per verb.
//!
//! A container's state is derived, never kept: from its record (is there a process, with that start time?), from its gate and that
//! process (does it still wait?), from its cgroup (is it frozen?).

mod console;
mod create;
mod delete;
mod events;
mod exec;
mod first;
mod gate;
mod kill;
mod list;
mod lock;
mod mounts;
mod notify;
mod pause;
mod ps;
mod record;
mod root;
mod run;
mod seal;
mod start;
mod state;
mod update;

pub use self::{
    create::{CreateOptions, create, kept_fds},
    delete::delete,
    events::events,
    exec::{ExecOptions, exec},
    kill::kill,
    list::{Listed, ids, list},
    mounts::{MountsChange, change_mounts},
    pause::{pause, resume},
    ps::ps,
    root::Root,
    run::{RunOptions, run},
    start::start,
    state::{processes, state},
    update::{Change, update},
};
