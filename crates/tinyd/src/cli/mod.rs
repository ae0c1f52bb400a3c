//! The command line: words become typed requests, answers become tables, JSON and exit codes. It talks to the daemon by
//! gRPC alone and holds no rule of its own about containers.
//!
//! stdout is data, stderr is talk. What every exit code means is in `docs/cli.md`.

mod archive;
mod ask;
mod attach;
mod cert;
mod commit;
mod completion;
mod context;
mod create;
mod daemon;
mod definition;
mod each;
mod exec;
mod export;
mod failure;
mod format;
mod globals;
mod home;
mod host;
mod image;
mod info;
mod inspect;
mod kill;
mod line;
mod logs;
mod missing;
mod network;
mod output;
mod pause;
mod port;
mod ps;
mod registry;
mod remote;
mod restart;
mod rm;
mod run;
mod session;
mod start;
mod stop;
mod system;
mod table;
mod template;
mod terminal;
mod text;
mod top;
mod tree;
mod unpause;
mod verb;
mod version;
mod views;
mod volume;
mod wait;
mod when;

#[cfg(test)]
mod reference;

use std::{ffi::OsString, process::ExitCode};

use clap::FromArgMatches;
use failure::{Failure, Result};
use globals::Globals;
use verb::Fails;

/// Runs the command that `args` names, the program's own name first, and says what to exit with.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    ExitCode::from(obey(args).unwrap_or_else(|failure| failure.tell(Fails::Plain)))
}

/// Reads the words, runs the verb, tells its failure as the verb tells failures.
fn obey(args: Vec<OsString>) -> Result<u8> {
    let words = match words(&args) {
        Ok(words) => words,
        Err(failure) => {
            let readable = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
            let verb = line::Line::read(readable).verb;
            return Ok(failure.tell(verb.map_or(Fails::Plain, |verb| verb.fails)));
        }
    };
    if let [word] = words.as_slice()
        && matches!(word.as_str(), "--version" | "-V" | "-v")
    {
        // Before clap: nothing is faster, and scripts ask this often.
        output::print(concat!("tinyd ", env!("CARGO_PKG_VERSION"), "\n"))?;
        return Ok(0);
    }
    let line = line::Line::read(words);
    let fails = line.verb.map_or(Fails::Plain, |verb| verb.fails);
    let outcome = parse(line).and_then(|(verb, mut matches)| {
        let globals = Globals::from_arg_matches(&matches).map_err(Failure::Usage)?;
        (verb.run)(&mut matches, &globals)
    });
    Ok(outcome.unwrap_or_else(|failure| failure.tell(fails)))
}

/// The verb and what was given to it.
fn parse(line: line::Line) -> Result<(&'static verb::Entry, clap::ArgMatches)> {
    let words = std::iter::once("tinyd".to_owned()).chain(line.words);
    let mut matches = line.command.try_get_matches_from(words).map_err(Failure::Usage)?;
    while let Some((_, inner)) = matches.remove_subcommand() {
        matches = inner;
    }
    // Without a verb clap has already answered with help or an error.
    line.verb.map(|verb| (verb, matches)).ok_or(Failure::Quiet(1))
}

fn words(args: &[OsString]) -> Result<Vec<String>> {
    args.iter()
        .enumerate()
        .skip(1)
        .map(|(index, word)| {
            word.to_str().map(str::to_owned).ok_or_else(|| {
                let rule = format!("word {index} of the command line, {word:?}, is not UTF-8");
                tinyd_core::Error::new(tinyd_core::Kind::InvalidArgument, rule).into()
            })
        })
        .collect()
}
