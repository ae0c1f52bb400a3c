//! `tinyd completion`: a script that completes the words of the command line.

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};

use super::{failure::Result, globals::Globals, output, tree, verb::Verb};

/// Print a script that completes commands and options in a shell
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd completion bash > /etc/bash_completion.d/tinyd\n  tinyd completion zsh > \"${fpath[1]}/_tinyd\"\n  tinyd completion fish > ~/.config/fish/completions/tinyd.fish"
)]
pub(super) struct Completion {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Words,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Words {
    Bash,
    Zsh,
    Fish,
}

impl Verb for Completion {
    fn run(self, _: &Globals) -> Result<u8> {
        let shell = match self.shell {
            Words::Bash => Shell::Bash,
            Words::Zsh => Shell::Zsh,
            Words::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        generate(shell, &mut tree::whole(), "tinyd", &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            generate(shell, &mut tree::whole(), "tinyd", &mut script);
            assert!(String::from_utf8(script).unwrap().contains("unpause"));
        }
    }
}
