//! Regular expressions over container ids, for `delete --regex` and `kill --regex`: the extended ones of POSIX without classes by
//! name and references back. No expression takes longer than its length times the id's.

use tinyd_core::{Error, Result};

/// How long a compiled expression may be, in instructions: `{1000}` within `{1000}` is refused.
const INSTRUCTIONS_MAX: usize = 10_000;

/// An expression that was read.
#[derive(Clone, Debug)]
pub(super) struct Regex(Vec<Inst>);

/// Which bytes.
type Set = [bool; 256];

#[derive(Clone, Debug)]
enum Inst {
    /// One byte of these.
    Byte(Box<Set>),
    /// Goes on at both.
    Split(usize, usize),
    Start,
    End,
    Match,
}

impl Regex {
    /// Reads an expression.
    ///
    /// # Errors
    /// `InvalidArgument` with what is wrong in it.
    pub(super) fn parse(text: &str) -> Result<Regex> {
        let mut parser = Parser { rest: text.as_bytes() };
        let tree = parser.alternatives();
        let tree = match tree {
            Ok(tree) if parser.rest.is_empty() => Ok(tree),
            Ok(_) => Err("a ) without a (".to_owned()),
            Err(why) => Err(why),
        };
        let mut program = Vec::new();
        let compiled = tree.and_then(|tree| compile(&tree, &mut program));
        compiled.map_err(|why| Error::invalid("--regex", format!("{text:?}: {why}")))?;
        program.push(Inst::Match);
        Ok(Regex(program))
    }

    /// Whether it matches somewhere in `text`.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (bytes, mut now) = (text.as_bytes(), Vec::new());
        for at in 0..=bytes.len() {
            let mut seen = vec![false; self.0.len()];
            let mut next = Vec::new();
            // It may begin anywhere.
            now.push(0);
            while let Some(place) = now.pop() {
                if std::mem::replace(&mut seen[place], true) {
                    continue;
                }
                match &self.0[place] {
                    Inst::Match => return true,
                    Inst::Byte(set) if bytes.get(at).is_some_and(|byte| set[usize::from(*byte)]) => {
                        next.push(place + 1);
                    }
                    Inst::Split(one, other) => now.extend([*one, *other]),
                    Inst::Start if at == 0 => now.push(place + 1),
                    Inst::End if at == bytes.len() => now.push(place + 1),
                    Inst::Byte(_) | Inst::Start | Inst::End => {}
                }
            }
            now = next;
        }
        false
    }
}

enum Tree {
    Inst(Inst),
    All(Vec<Tree>),
    Either(Vec<Tree>),
    /// At least, and at most.
    Repeat(Box<Tree>, usize, Option<usize>),
}

struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    fn take(&mut self, byte: u8) -> bool {
        let taken = self.rest.first() == Some(&byte);
        self.rest = if taken { &self.rest[1..] } else { self.rest };
        taken
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn alternatives(&mut self) -> Result<Tree, String> {
        let mut all = vec![self.sequence()?];
        while self.take(b'|') {
            all.push(self.sequence()?);
        }
        Ok(Tree::Either(all))
    }

    fn sequence(&mut self) -> Result<Tree, String> {
        let mut all = Vec::new();
        while !matches!(self.rest.first(), None | Some(b'|' | b')')) {
            let one = self.atom()?;
            all.push(self.repeated(one)?);
        }
        Ok(Tree::All(all))
    }

    fn atom(&mut self) -> Result<Tree, String> {
        let inst = match self.next() {
            Some(b'(') => {
                let inner = self.alternatives()?;
                return if self.take(b')') { Ok(inner) } else { Err("a ( without a )".into()) };
            }
            Some(byte @ (b'*' | b'+' | b'?' | b'{')) => {
                return Err(format!("nothing before {}", char::from(byte)));
            }
            Some(b'[') => Inst::Byte(Box::new(self.set()?)),
            Some(b'.') => Inst::Byte(Box::new([true; 256])),
            Some(b'^') => Inst::Start,
            Some(b'$') => Inst::End,
            Some(b'\\') => single(self.next().ok_or("a \\ at the end")?),
            Some(byte) => single(byte),
            None => return Err("it ends too early".into()),
        };
        Ok(Tree::Inst(inst))
    }

    fn repeated(&mut self, mut one: Tree) -> Result<Tree, String> {
        loop {
            let (least, most) = match self.rest.first() {
                Some(b'*') => (0, None),
                Some(b'+') => (1, None),
                Some(b'?') => (0, Some(1)),
                Some(b'{') => {
                    one = self.counted(one)?;
                    continue;
                }
                Some(_) | None => return Ok(one),
            };
            self.next();
            one = Tree::Repeat(Box::new(one), least, most);
        }
    }

    /// `{3}`, `{3,}`, `{3,5}`.
    fn counted(&mut self, one: Tree) -> Result<Tree, String> {
        self.next();
        let end = self.rest.iter().position(|byte| *byte == b'}').ok_or("a { without a }")?;
        let words = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        self.rest = &self.rest[end + 1..];
        let number = |word: &str| {
            let number = word.parse().ok().filter(|count| *count <= INSTRUCTIONS_MAX);
            number.ok_or_else(|| format!("{{{words}}} is no count"))
        };
        let (least, most) = match words.split_once(',') {
            None => (number(&words)?, Some(number(&words)?)),
            Some((least, "")) => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        if most.is_some_and(|most| most < least) {
            return Err(format!("{{{words}}} is no count"));
        }
        Ok(Tree::Repeat(Box::new(one), least, most))
    }

    /// `[a-z_]`, `[^a]`; a `]` at the beginning is one of them.
    fn set(&mut self) -> Result<Set, String> {
        let except = self.take(b'^');
        let mut set = [false; 256];
        let mut first = true;
        loop {
            let from = self.next().ok_or("a [ without a ]")?;
            if from == b']' && !first {
                break;
            }
            first = false;
            if from == b'[' && matches!(self.rest.first(), Some(b':' | b'.' | b'=')) {
                return Err("classes by name are not known".into());
            }
            let to = match self.rest {
                [b'-', to, ..] if *to != b']' => {
                    let to = *to;
                    self.rest = &self.rest[2..];
                    to
                }
                _ => from,
            };
            set[usize::from(from)..]
                .iter_mut()
                .take((usize::from(to) + 1).saturating_sub(usize::from(from)))
                .for_each(|is| *is = true);
        }
        set.iter_mut().for_each(|is| *is ^= except);
        Ok(set)
    }
}

fn single(byte: u8) -> Inst {
    let mut set = [false; 256];
    set[usize::from(byte)] = true;
    Inst::Byte(Box::new(set))
}

fn compile(tree: &Tree, program: &mut Vec<Inst>) -> Result<(), String> {
    if program.len() > INSTRUCTIONS_MAX {
        return Err("it is too long".into());
    }
    match tree {
        Tree::Inst(inst) => program.push(inst.clone()),
        Tree::All(all) => all.iter().try_for_each(|one| compile(one, program))?,
        Tree::Either(all) => {
            let mut jumps = Vec::new();
            let Some((last, before)) = all.split_last() else { return Ok(()) };
            for one in before {
                let split = reserve(program);
                compile(one, program)?;
                jumps.push(reserve(program));
                program[split] = Inst::Split(split + 1, program.len());
            }
            compile(last, program)?;
            let end = program.len();
            jumps.into_iter().for_each(|jump| program[jump] = Inst::Split(end, end));
        }
        Tree::Repeat(one, least, most) => {
            for _ in 0..*least {
                compile(one, program)?;
            }
            let Some(most) = most else {
                let split = reserve(program);
                compile(one, program)?;
                program.push(Inst::Split(split, split));
                program[split] = Inst::Split(split + 1, program.len());
                return Ok(());
            };
            for _ in *least..*most {
                let split = reserve(program);
                compile(one, program)?;
                program[split] = Inst::Split(split + 1, program.len());
            }
        }
    }
    Ok(())
}

/// A place that is filled in when it is known what comes after.
fn reserve(program: &mut Vec<Inst>) -> usize {
    program.push(Inst::Match);
    program.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found() {
        for (pattern, yes, no) in [
            ("web", "a-web-1", "we-b"),
            ("^web", "web1", "aweb"),
            ("web$", "aweb", "web1"),
            ("^(a|b|cd)+$", "acdb", "ace"),
            ("^a.c$", "abc", "ac"),
            ("^a\\.c$", "a.c", "abc"),
            ("^[a-c_]*$", "ab_", "abd"),
            ("^[^a]$", "b", "a"),
            ("^[]x]$", "x", "y"),
            ("^a{2,3}$", "aaa", "aaaa"),
            ("^a{2}$", "aa", "a"),
            ("^a{2,}b?$", "aaaab", "ab"),
            ("^(|x)y$", "y", "z"),
        ] {
            let regex = Regex::parse(pattern).unwrap();
            assert!(regex.matches(yes), "{pattern} {yes}");
            assert!(!regex.matches(no), "{pattern} {no}");
        }
        assert!(Regex::parse("").unwrap().matches("anything"));
    }

    #[test]
    fn what_is_no_expression_is_told() {
        for bad in ["(", ")", "[a", "*", "a{", "a{x}", "a{3,2}", "\\", "[[:alpha:]]", "(a{1000}){1000}"] {
            assert_eq!(Regex::parse(bad).unwrap_err().field(), Some("--regex"), "{bad}");
        }
    }

    #[test]
    fn an_expression_that_others_need_ages_for_is_quick() {
        let regex = Regex::parse("^(a*)*(a*)*(a*)*b$").unwrap();
        assert!(!regex.matches(&"a".repeat(1024)));
    }
}
