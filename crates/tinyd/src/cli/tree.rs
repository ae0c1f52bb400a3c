//! The tree of commands, as a table. Building all of it costs clap two milliseconds, so a known command gets a tree with
//! its own branch only; the whole is for help, completion and suggestions.

use clap::{Args, Command};

use super::{
    attach, cert, commit, completion, context, create, daemon, exec, export,
    globals::Globals,
    image, info, inspect, kill, logs, network, pause, port, ps, registry, restart, rm, run, start, stop,
    system, top, unpause,
    verb::{Entry, Verb},
    version, volume, wait,
};

/// A word of the command line, and what stands behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// The word.
    pub(super) name: &'static str,
    /// Other words for it.
    pub(super) aliases: &'static [&'static str],
    /// What stands behind it.
    pub(super) body: Body,
}

/// What stands behind a word.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    /// A command.
    Verb(Entry),
    /// More words.
    Group {
        /// What they are about.
        about: &'static str,
        /// An example, as every `--help` shows one.
        example: &'static str,
        /// The words.
        nodes: &'static [Node],
    },
}

const fn verb<V: Verb>(name: &'static str, aliases: &'static [&'static str]) -> Node {
    Node { name, aliases, body: Body::Verb(Entry::of::<V>()) }
}

const fn group(
    name: &'static str,
    aliases: &'static [&'static str],
    about: &'static str,
    example: &'static str,
    nodes: &'static [Node],
) -> Node {
    Node { name, aliases, body: Body::Group { about, example, nodes } }
}

/// Every command.
pub(super) const ROOT: &[Node] = &[
    verb::<run::Run>("run", &[]),
    verb::<create::Create>("create", &[]),
    verb::<start::Start>("start", &[]),
    verb::<stop::Stop>("stop", &[]),
    verb::<restart::Restart>("restart", &[]),
    verb::<kill::Kill>("kill", &[]),
    verb::<rm::Rm>("rm", &["remove"]),
    verb::<ps::Ps>("ps", &["ls", "list"]),
    verb::<exec::Exec>("exec", &[]),
    verb::<attach::Attach>("attach", &[]),
    verb::<logs::Logs>("logs", &[]),
    verb::<inspect::Inspect>("inspect", &[]),
    verb::<top::Top>("top", &[]),
    verb::<port::Port>("port", &[]),
    verb::<wait::Wait>("wait", &[]),
    verb::<pause::Pause>("pause", &[]),
    verb::<unpause::Unpause>("unpause", &[]),
    verb::<export::Export>("export", &[]),
    verb::<commit::Commit>("commit", &[]),
    verb::<image::ls::Ls>("images", &[]),
    verb::<image::pull::Pull>("pull", &[]),
    verb::<image::push::Push>("push", &[]),
    verb::<registry::login::Login>("login", &[]),
    verb::<registry::logout::Logout>("logout", &[]),
    verb::<image::load::Load>("load", &[]),
    verb::<image::save::Save>("save", &[]),
    verb::<image::import::Import>("import", &[]),
    verb::<image::tag::Tag>("tag", &[]),
    verb::<image::rm::Rm>("rmi", &[]),
    verb::<image::history::History>("history", &[]),
    group(
        "image",
        &[],
        "Images: what containers are made from",
        "Example:\n  tinyd image load -i redis.tar",
        &[
            verb::<image::ls::Ls>("ls", &["list"]),
            verb::<image::inspect::Inspect>("inspect", &[]),
            verb::<image::history::History>("history", &[]),
            verb::<image::pull::Pull>("pull", &[]),
            verb::<image::push::Push>("push", &[]),
            verb::<image::load::Load>("load", &[]),
            verb::<image::save::Save>("save", &[]),
            verb::<image::import::Import>("import", &[]),
            verb::<image::tag::Tag>("tag", &[]),
            verb::<image::rm::Rm>("rm", &["remove", "delete"]),
            verb::<image::prune::Prune>("prune", &[]),
        ],
    ),
    group(
        "network",
        &[],
        "Networks of containers",
        "Example:\n  tinyd network create --subnet 192.168.10.0/24 -d bridge mynet",
        &[
            verb::<network::create::Create>("create", &[]),
            verb::<network::ls::Ls>("ls", &["list"]),
            verb::<network::inspect::Inspect>("inspect", &[]),
            verb::<network::delete::Delete>("delete", &["rm", "remove"]),
        ],
    ),
    group(
        "volume",
        &[],
        "Named volumes: directories that outlive containers",
        "Example:\n  tinyd volume create data",
        &[
            verb::<volume::create::Create>("create", &[]),
            verb::<volume::ls::Ls>("ls", &["list"]),
            verb::<volume::inspect::Inspect>("inspect", &[]),
            verb::<volume::rm::Rm>("rm", &["remove", "delete"]),
            verb::<volume::prune::Prune>("prune", &[]),
        ],
    ),
    group(
        "system",
        &[],
        "The daemon, its host, and all that it keeps",
        "Example:\n  tinyd system df",
        &[
            verb::<info::Info>("info", &[]),
            verb::<system::df::Df>("df", &[]),
            verb::<system::prune::Prune>("prune", &[]),
            verb::<system::check::Check>("check", &[]),
        ],
    ),
    verb::<info::Info>("info", &[]),
    verb::<version::Version>("version", &[]),
    group(
        "context",
        &[],
        "Named daemons, so that --host and the TLS files need not be said each time",
        "Example:\n  tinyd context create edge1 --host tcp://edge1:9999 --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem\n  tinyd context use edge1",
        &[
            verb::<context::create::Create>("create", &[]),
            verb::<context::r#use::Use>("use", &[]),
            verb::<context::ls::Ls>("ls", &["list"]),
            verb::<context::show::Show>("show", &[]),
            verb::<context::rm::Rm>("rm", &["remove", "delete"]),
        ],
    ),
    group(
        "cert",
        &[],
        "Certificates for a daemon that listens on TCP",
        "Example:\n  tinyd cert ca && tinyd cert server edge1 && tinyd cert client ann",
        &[
            verb::<cert::ca::Ca>("ca", &[]),
            verb::<cert::server::Server>("server", &[]),
            verb::<cert::client::Client>("client", &[]),
        ],
    ),
    verb::<daemon::Daemon>("daemon", &[]),
    verb::<completion::Completion>("completion", &[]),
];

impl Node {
    /// The node among `nodes` that a word names.
    pub(super) fn find(nodes: &'static [Node], word: &str) -> Option<&'static Node> {
        nodes.iter().find(|node| node.name == word || node.aliases.contains(&word))
    }

    /// clap's command for it, with everything below it.
    pub(super) fn whole(&self) -> Command {
        match self.body {
            Body::Verb(entry) => (entry.augment)(self.bare()),
            Body::Group { nodes, .. } => self.bare().subcommands(nodes.iter().map(Node::whole)),
        }
    }

    /// clap's command for it, without what is below it.
    fn bare(&self) -> Command {
        // The last of two wins, as everywhere: `--it -t`, `--name a --name b`.
        let command = Command::new(self.name).visible_aliases(self.aliases).args_override_self(true);
        match self.body {
            Body::Verb(_) => command,
            Body::Group { about, example, .. } => command
                .about(about)
                .after_help(example)
                .subcommand_required(true)
                .arg_required_else_help(true)
                .disable_help_subcommand(true),
        }
    }
}

/// The command with everything below it.
pub(super) fn whole() -> Command {
    root().subcommands(ROOT.iter().map(Node::whole))
}

/// The command with one branch: the nodes of `path`, and all that is below the last.
pub(super) fn branch(path: &[&'static Node]) -> Command {
    let Some((last, groups)) = path.split_last() else { return whole() };
    let mut command = last.whole();
    for group in groups.iter().rev() {
        command = group.bare().subcommand(command);
    }
    root().subcommand(command)
}

fn root() -> Command {
    let command = Command::new("tinyd")
        .about("Containers: run, enter, list, limit, connect and remove them, here and from afar")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "Example:\n  tinyd run -i /root/redis --mem 500m --name c1 -p 6379:6379 redis-server\n\n'tinyd COMMAND --help' shows more.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true);
    Globals::augment_args(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(command: &Command, path: &str, see: &mut impl FnMut(&str, &Command)) {
        let path = format!("{path} {}", command.get_name());
        see(&path, command);
        for inner in command.get_subcommands() {
            visit(inner, &path, see);
        }
    }

    #[test]
    fn clap_finds_the_tree_sound() {
        whole().debug_assert();
    }

    #[test]
    fn every_help_shows_an_example() {
        visit(&whole(), "", &mut |path, command| {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Example"), "{path} --help has no example");
            assert!(after.contains("tinyd "), "{path}: the example is no command");
        });
    }

    #[test]
    fn every_command_and_every_option_says_what_it_is() {
        visit(&whole(), "", &mut |path, command| {
            assert!(command.get_about().is_some(), "{path} says nothing about itself");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path} {} has no help", arg.get_id());
            }
        });
    }
}
