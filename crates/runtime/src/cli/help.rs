//! Help and version texts.

use std::fmt::Write;

use tinyd_core::oci;

use super::{
    args::Opt,
    verbs::{GLOBAL, VERBS, Verb},
};

/// What `--version` prints. Engines read the first lines by their words, and people the last one, as crun has it.
pub(super) fn version() -> String {
    format!(
        "tinyrun version {}\nspec: {}\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF\n",
        env!("CARGO_PKG_VERSION"),
        oci::OCI_VERSION
    )
}

/// What `--help` prints.
pub(super) fn overview() -> String {
    let mut text = String::from(
        "tinyrun: an OCI runtime\n\nusage: tinyrun [OPTIONS] COMMAND [OPTIONS] ID [ARGUMENTS]\n\n\
         example: tinyrun run --bundle /srv/web web\n\ncommands:\n",
    );
    for verb in VERBS {
        line(&mut text, verb.name, verb.help);
    }
    text.push_str("\noptions:\n");
    options(&mut text, GLOBAL);
    text
}

/// What `COMMAND --help` prints.
pub(super) fn of(verb: &Verb) -> String {
    let mut text = format!(
        "{}\n\nusage: tinyrun {} {}\n\nexample: {}\n",
        verb.help, verb.name, verb.usage, verb.example
    );
    if !verb.options.is_empty() {
        text.push_str("\noptions:\n");
        options(&mut text, verb.options);
    }
    text
}

fn options(text: &mut String, options: &[Opt]) {
    for option in options {
        let short =
            option.short.chars().next().map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
        let value = option.value.map_or_else(String::new, |value| format!(" {value}"));
        line(text, &format!("{short}--{}{value}", option.name), option.help);
    }
}

fn line(text: &mut String, left: &str, right: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {left:<28} {right}");
}
