//! `docs/cli.md` is what this makes of the tree of commands, so that the manual cannot say other than the program does.
//! `TINYD_WRITE_DOCS=1 cargo test -p tinyd reference` writes it.

use std::path::PathBuf;

use clap::{Args, Command};

use super::{
    globals::Globals,
    tree::{self, ROOT},
};

/// The manual's beginning: what is true of every command.
const INTRODUCTION: &str = include_str!("reference.md");

fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## Global options\n\nBefore or after the command.\n");
    block(&mut text, Globals::augment_args(Command::new("tinyd").disable_help_flag(true)), "{options}");
    for node in ROOT {
        section(&mut text, node.whole(), "tinyd");
    }
    text
}

fn section(text: &mut String, command: Command, before: &str) {
    let path = format!("{before} {}", command.get_name());
    let inner: Vec<Command> = command.get_subcommands().cloned().collect();
    let level = if before == "tinyd" { "##" } else { "###" };
    text.push_str(&format!("\n{level} {path}\n"));
    let template = "{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}";
    block(text, command.disable_help_flag(true).bin_name(&path), template);
    for command in inner {
        section(text, command, &path);
    }
}

fn block(text: &mut String, command: Command, template: &'static str) {
    let help = command.term_width(100).help_template(template).render_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("\n```text\n{}\n```\n", lines.join("\n").trim_matches('\n')));
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md")
}

#[test]
fn the_manual_says_what_the_program_does() {
    let fresh = manual();
    if std::env::var_os("TINYD_WRITE_DOCS").is_some() {
        std::fs::write(path(), &fresh).unwrap();
    }
    let written = std::fs::read_to_string(path()).unwrap_or_default();
    assert!(written == fresh, "docs/cli.md is stale: TINYD_WRITE_DOCS=1 cargo test -p tinyd reference");
}

#[test]
fn the_manual_has_every_command() {
    let manual = manual();
    for command in tree::whole().get_subcommands() {
        assert!(manual.contains(&format!("\n## tinyd {}\n", command.get_name())));
    }
}
