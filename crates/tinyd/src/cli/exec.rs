//! `tinyd exec`: one more process in a container that runs.

use clap::Args;
use tinyd_core::{
    Error,
    config::{User, check_argv, check_env},
};

use super::{
    definition::{ThisProcess, absolute_dir, env_entries, read_env_file},
    failure::Result,
    globals::Globals,
    session::{self, Executing},
    terminal,
    verb::{Fails, Verb},
};
use crate::pb;

/// Run one more program in a container
#[derive(Args, Debug)]
#[command(
    override_usage = "tinyd exec [OPTIONS] CONTAINER COMMAND...",
    after_help = "Examples:
  tinyd exec c1 ls /
  tinyd exec --it c1 sh
  echo 'select 1' | tinyd exec -i db psql

Exit codes: the program's own; 125 when tinyd cannot run it, 126 when it cannot be executed, 127 when it is not there."
)]
pub(super) struct Exec {
    /// Give it a terminal and this client's input (also -it)
    #[arg(long = "it")]
    both: bool,
    /// Send this client's standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Do not wait for it, and show nothing of it
    #[arg(short, long, conflicts_with_all = ["interactive", "both"])]
    detach: bool,
    /// A variable beyond the container's; KEY alone takes its value from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// A file of variables, KEY=VALUE or KEY on each line, # for comments
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// The working directory, absolute in the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Who it runs as, by the container's own passwd file or by number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Every capability that the container's namespaces allow, and no system call filter
    #[arg(long)]
    privileged: bool,
    /// The container, the program and its arguments
    #[arg(value_name = "CONTAINER COMMAND", required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

impl Verb for Exec {
    const FAILS: Fails = Fails::Apart;
    const ENDS_FLAGS: bool = true;

    fn run(self, globals: &Globals) -> Result<u8> {
        let open = self.open()?;
        if open.tty && open.stdin {
            terminal::require_input("--it")?;
        }
        globals.online(async move |remote| {
            if open.detach {
                Executing(open).detached(&remote).await?;
                return Ok(0);
            }
            let stdin = open.stdin;
            session::run(&remote, Executing(open), stdin).await
        })
    }
}

impl Exec {
    /// What the words mean.
    fn open(mut self) -> tinyd_core::Result<pb::ExecOpen> {
        let command = self.words.split_off(1);
        if command.is_empty() {
            return Err(Error::invalid("COMMAND", "missing: tinyd exec CONTAINER COMMAND..."));
        }
        check_argv("COMMAND", &command)?;
        let mut env = Vec::new();
        for path in &self.env_file {
            env.extend(read_env_file(path, &ThisProcess)?);
        }
        env.extend(env_entries("-e", &self.env, &ThisProcess)?);
        check_env("-e", &env)?;
        Ok(pb::ExecOpen {
            container: self.words.swap_remove(0),
            command,
            tty: self.tty || self.both,
            stdin: self.interactive || self.both,
            env,
            workdir: self.workdir.map(|dir| absolute_dir("-w", dir)).transpose()?.unwrap_or_default(),
            user: self
                .user
                .map(|user| User::parse("-u", &user))
                .transpose()?
                .map(String::from)
                .unwrap_or_default(),
            privileged: self.privileged,
            size: None,
            detach: self.detach,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn open(words: &[&str]) -> tinyd_core::Result<pb::ExecOpen> {
        let words = std::iter::once("exec").chain(words.iter().copied());
        let matches = Exec::augment_args(Command::new("exec")).try_get_matches_from(words).unwrap();
        Exec::from_arg_matches(&matches).unwrap().open()
    }

    #[test]
    fn it_is_a_terminal_with_input() {
        for words in [&["--it", "c1", "sh"][..], &["-it", "c1", "sh"], &["-i", "-t", "c1", "sh"]] {
            let open = open(words).unwrap();
            assert!(open.tty && open.stdin, "{words:?}");
            assert_eq!((open.container.as_str(), open.command), ("c1", vec!["sh".to_owned()]));
        }
    }

    #[test]
    fn without_flags_its_input_is_empty() {
        let open = open(&["-e", "A=1", "-w", "/srv", "-u", "1000", "c1", "ls"]).unwrap();
        assert!(!open.tty && !open.stdin && !open.detach);
        assert_eq!(
            (open.env, open.workdir.as_str(), open.user.as_str()),
            (vec!["A=1".to_owned()], "/srv", "1000")
        );
    }

    #[test]
    fn bad_words_name_their_flag() {
        for (words, flag) in [
            (&["c1"][..], "COMMAND"),
            (&["-u", "4294967296", "c1", "ls"], "-u"),
            (&["-w", "srv", "c1", "ls"], "-w"),
            (&["-e", "=1", "c1", "ls"], "-e"),
        ] {
            assert_eq!(open(words).unwrap_err().field(), Some(flag));
        }
    }
}
