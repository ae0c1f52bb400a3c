//! What every command of the command line is: arguments, a way to run, a way to fail.

use std::fmt;

use clap::{ArgMatches, Command};
use tinyd_core::Kind;

use super::{
    failure::{Failure, Result},
    globals::Globals,
};

/// What a command's failure exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fails {
    /// 1.
    Plain,
    /// 125, 126 or 127, so that a container's own status stays apart from it, as in Docker.
    Apart,
}

impl Fails {
    /// The exit code for a kind of failure.
    pub(super) const fn code(self, kind: Kind) -> u8 {
        match self {
            Fails::Plain => 1,
            Fails::Apart => kind.exit_code(),
        }
    }
}

/// A command.
pub(super) trait Verb: clap::Args {
    /// What its failure exits with.
    const FAILS: Fails = Fails::Plain;
    /// Whether its first positional begins words that are not tinyd's: flags among them belong to the container's program.
    const ENDS_FLAGS: bool = false;
    /// Whether `-i` takes a value, so that `-it` needs to be told from `-i t`.
    const IMAGE_FLAG: bool = false;

    /// Does it, and gives the exit code.
    fn run(self, globals: &Globals) -> Result<u8>;
}

/// A command as data, so that the tree of commands is a table.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// Adds its arguments.
    pub(super) augment: fn(Command) -> Command,
    /// Runs it with what was given.
    pub(super) run: fn(&mut ArgMatches, &Globals) -> Result<u8>,
    /// See [`Verb::FAILS`].
    pub(super) fails: Fails,
    /// See [`Verb::ENDS_FLAGS`].
    pub(super) ends_flags: bool,
    /// See [`Verb::IMAGE_FLAG`].
    pub(super) image_flag: bool,
}

impl Entry {
    /// The entry of a verb.
    pub(super) const fn of<V: Verb>() -> Entry {
        Entry {
            augment: V::augment_args,
            run: run::<V>,
            fails: V::FAILS,
            ends_flags: V::ENDS_FLAGS,
            image_flag: V::IMAGE_FLAG,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("fails", &self.fails).finish_non_exhaustive()
    }
}

fn run<V: Verb>(matches: &mut ArgMatches, globals: &Globals) -> Result<u8> {
    V::from_arg_matches_mut(matches).map_err(Failure::Usage)?.run(globals)
}
