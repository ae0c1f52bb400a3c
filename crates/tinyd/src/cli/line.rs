//! The words before clap sees them: which command they name, where the container's own words begin, and `-it`.
//!
//! tinyd's `run -i` takes an image, as in the original tiny Docker, and people type `-it` and `-i --rm` from habit: so these are
//! told apart here. And a flag behind the container's program is the program's: a `--` is put before it.

use clap::{Arg, Args, Command};

use super::{
    globals::Globals,
    tree::{self, Body, Node, ROOT},
    verb::Entry,
};

/// What clap is to read.
#[derive(Debug)]
pub(super) struct Line {
    /// The tree that the words are read by.
    pub(super) command: Command,
    /// The command that they name, if any.
    pub(super) verb: Option<&'static Entry>,
    /// The words, without the program's name.
    pub(super) words: Vec<String>,
}

impl Line {
    /// Finds the command and makes the words plain for clap.
    pub(super) fn read(mut words: Vec<String>) -> Line {
        let globals = Options::of(&Globals::augment_args(Command::new("tinyd")));
        help_word_to_flag(&globals, &mut words);
        let found = Found::look(&globals, &words);
        let command = tree::branch(&found.path);
        if let Some(entry) = found.verb
            && (entry.ends_flags || entry.image_flag)
        {
            let leaf =
                found.path.iter().try_fold(&command, |command, node| command.find_subcommand(node.name));
            let options = globals.and(leaf.map(Options::of).unwrap_or_default());
            let rest = words.split_off(found.next);
            words.extend(plain(entry, &options, rest));
        }
        Line { command, verb: found.verb, words }
    }
}

/// The nodes that the words name.
struct Found {
    path: Vec<&'static Node>,
    verb: Option<&'static Entry>,
    /// The word after the last that named something.
    next: usize,
}

impl Found {
    fn look(globals: &Options, words: &[String]) -> Found {
        let mut found = Found { path: Vec::new(), verb: None, next: 0 };
        let (mut nodes, mut at) = (ROOT, 0);
        while let Some(word) = words.get(at) {
            match globals.step(word) {
                Step::Flag { takes_next } => at += 1 + usize::from(takes_next),
                Step::End => break,
                Step::Positional => {
                    let Some(node) = Node::find(nodes, word) else { break };
                    found.path.push(node);
                    at += 1;
                    found.next = at;
                    match &node.body {
                        Body::Verb(entry) => {
                            found.verb = Some(entry);
                            break;
                        }
                        Body::Group { nodes: inner, .. } => nodes = inner,
                    }
                }
            }
        }
        found
    }
}

/// `help run` is `run --help`.
fn help_word_to_flag(globals: &Options, words: &mut Vec<String>) {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match globals.step(word) {
            Step::Flag { takes_next } => at += 1 + usize::from(takes_next),
            Step::Positional if word == "help" => {
                words.remove(at);
                words.push("--help".to_owned());
                return;
            }
            Step::Positional | Step::End => return,
        }
    }
}

/// The words after a verb: `-it` made plain, `--` put before the first positional.
fn plain(entry: &Entry, options: &Options, words: Vec<String>) -> Vec<String> {
    let mut plain = Vec::with_capacity(words.len() + 1);
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if entry.image_flag {
            if let Some(flags) = terminal_cluster(options, &word) {
                // The last of them may take the next word.
                let takes_next =
                    flags.last().is_some_and(|flag| options.step(flag) == Step::Flag { takes_next: true });
                plain.extend(flags);
                plain.extend(words.next_if(|_| takes_next));
                continue;
            }
            if let Some(flags) = input_cluster(&word, words.peek()) {
                plain.extend(flags);
                continue;
            }
        }
        match options.step(&word) {
            Step::Flag { takes_next } => {
                plain.push(word);
                plain.extend(words.next_if(|_| takes_next));
            }
            Step::End => {
                plain.push(word);
                break;
            }
            Step::Positional => {
                if entry.ends_flags {
                    plain.push("--".to_owned());
                }
                plain.push(word);
                if entry.ends_flags {
                    break;
                }
            }
        }
    }
    plain.extend(words);
    plain
}

/// `-it`, `-ti`, `-dit`, `-itp` and so on as the flags that are meant.
fn terminal_cluster(options: &Options, word: &str) -> Option<Vec<String>> {
    let letters = word.strip_prefix('-')?;
    let (switches, rest) = split_switches(letters);
    if !(switches.contains('i') && switches.contains('t')) {
        return None;
    }
    let mut flags = vec!["--it".to_owned()];
    flags
        .extend(switches.chars().filter(|letter| !"it".contains(*letter)).map(|letter| format!("-{letter}")));
    match rest {
        "" => Some(flags),
        // One letter more may be an option whose value is the next word; more letters are the name of an image.
        one if one.chars().count() == 1 && options.cluster_takes_next(one) => {
            flags.push(format!("-{one}"));
            Some(flags)
        }
        _ => None,
    }
}

/// Docker's `-i`, alone or as in `-di`, where an image cannot be meant: another option follows, and no image begins with a dash.
fn input_cluster(word: &str, next: Option<&String>) -> Option<Vec<String>> {
    let (switches, rest) = split_switches(word.strip_prefix('-')?);
    if !(switches.ends_with('i') && rest.is_empty() && next.is_some_and(|next| next.starts_with('-'))) {
        return None;
    }
    let others = switches.chars().filter(|letter| *letter != 'i').map(|letter| format!("-{letter}"));
    // No need to say both where a terminal gives both: `-i -t`.
    let interactive = Some("--interactive".to_owned()).filter(|_| next.is_none_or(|next| next != "-t"));
    Some(others.chain(interactive).collect())
}

/// The leading letters of a cluster that are `run`'s switches, or `i` as Docker has it; and the rest.
fn split_switches(letters: &str) -> (&str, &str) {
    let end = letters.find(|letter| !matches!(letter, 'a' | 'd' | 'i' | 't')).unwrap_or(letters.len());
    letters.split_at(end)
}

/// Which options there are, and whether they take a value.
#[derive(Debug, Default)]
struct Options {
    long: Vec<(String, bool)>,
    short: Vec<(char, bool)>,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// An option, known or not.
    Flag {
        /// Whether the next word is its value.
        takes_next: bool,
    },
    /// `--`.
    End,
    /// Anything else.
    Positional,
}

impl Options {
    fn of(command: &Command) -> Options {
        let mut options = Options::default();
        for arg in command.get_arguments() {
            options.add(arg);
        }
        options
    }

    fn add(&mut self, arg: &Arg) {
        let takes = arg.get_action().takes_values();
        let aliases = arg.get_all_aliases().unwrap_or_default();
        self.long.extend(arg.get_long().into_iter().chain(aliases).map(|name| (name.to_owned(), takes)));
        let aliases = arg.get_all_short_aliases().unwrap_or_default();
        self.short.extend(arg.get_short().into_iter().chain(aliases).map(|name| (name, takes)));
    }

    fn and(mut self, other: Options) -> Options {
        self.long.extend(other.long);
        self.short.extend(other.short);
        self
    }

    fn step(&self, word: &str) -> Step {
        if word == "--" {
            return Step::End;
        }
        if let Some(long) = word.strip_prefix("--") {
            let takes_next = self.long.iter().any(|(name, takes)| *takes && name == long);
            return Step::Flag { takes_next };
        }
        match word.strip_prefix('-') {
            None | Some("") => Step::Positional,
            Some(cluster) => Step::Flag { takes_next: self.cluster_takes_next(cluster) },
        }
    }

    /// Whether the last letter of `-abc` is the first of them that takes a value.
    fn cluster_takes_next(&self, cluster: &str) -> bool {
        let takes = |letter: char| self.short.iter().any(|(name, takes)| *takes && *name == letter);
        cluster
            .char_indices()
            .find(|(_, letter)| takes(*letter))
            .is_some_and(|(at, letter)| at + letter.len_utf8() == cluster.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> String {
        Line::read(line.split_whitespace().map(str::to_owned).collect()).words.join(" ")
    }

    #[test]
    fn it_is_a_terminal_and_not_an_image_called_t() {
        assert_eq!(read("run -it -i /root/redis sh"), "run --it -i /root/redis -- sh");
        assert_eq!(read("run -ti redis sh"), "run --it -- redis sh");
        assert_eq!(read("run -dit redis"), "run --it -d -- redis");
        assert_eq!(read("run -i -t redis sh"), "run -t -- redis sh");
        assert_eq!(read("create -it redis sh"), "create --it -- redis sh");
        assert_eq!(read("run -ditp 80:80 redis sh"), "run --it -d -p 80:80 -- redis sh");
        assert_eq!(read("run -itv /a:/b -i x sh"), "run --it -v /a:/b -i x -- sh");
        assert_eq!(read("run -itest sh"), "run -itest -- sh");
        assert_eq!(read("run -i /root/redis sh"), "run -i /root/redis -- sh");
    }

    #[test]
    fn i_before_another_option_is_standard_input() {
        assert_eq!(read("run -i --rm redis cat"), "run --interactive --rm -- redis cat");
        assert_eq!(read("run -di --name x redis cat"), "run -d --interactive --name x -- redis cat");
        assert_eq!(read("run --rm -i -- redis cat"), "run --rm --interactive -- redis cat");
        assert_eq!(read("run -di redis cat"), "run -di redis -- cat");
        assert_eq!(read("run -i"), "run -i");
    }

    #[test]
    fn words_after_the_program_are_its_own() {
        assert_eq!(read("run redis sh -it --rm"), "run -- redis sh -it --rm");
        assert_eq!(read("run -e A=1 --net mynet -i x ls -la"), "run -e A=1 --net mynet -i x -- ls -la");
        assert_eq!(read("run -eA=1 --net=mynet -ix ls"), "run -eA=1 --net=mynet -ix -- ls");
        assert_eq!(read("run -de A=1 x"), "run -de A=1 -- x");
        assert_eq!(read("run -i x -- ls"), "run -i x -- ls");
        assert_eq!(read("exec -it c1 sh -c ls"), "exec -it -- c1 sh -c ls");
        assert_eq!(read("exec --host unix:///x c1 ls --host"), "exec --host unix:///x -- c1 ls --host");
        assert_eq!(read("rm c1 -f"), "rm c1 -f");
    }

    #[test]
    fn an_unknown_flag_stays_tinyds() {
        assert_eq!(read("run --nope x sh"), "run --nope -- x sh");
    }

    #[test]
    fn global_options_may_stand_before_the_command() {
        let line = Line::read(["--host", "run", "ps"].map(str::to_owned).to_vec());
        assert!(line.verb.is_some());
        assert_eq!(line.command.get_subcommands().map(Command::get_name).collect::<Vec<_>>(), ["ps"]);
        assert_eq!(read("--host h run redis ls -l"), "--host h run -- redis ls -l");
    }

    #[test]
    fn help_as_a_word() {
        assert_eq!(read("help network create"), "network create --help");
        assert_eq!(read("help"), "--help");
    }

    #[test]
    fn an_unknown_command_gets_the_whole_tree() {
        let line = Line::read(vec!["psx".to_owned()]);
        assert!(line.verb.is_none());
        assert!(line.command.get_subcommands().count() > 20);
    }

    proptest! {
        #[test]
        fn no_words_panic(words in proptest::collection::vec("(-{0,2}[a-z=é]{0,6}|run|exec|network|-it|--|help|.*)", 0..8)) {
            let line = Line::read(words);
            let _ = line.command.try_get_matches_from(line.words);
        }
    }
}
