//! Any path of a cgroup: it stays below the root. Any list of devices: v1's files and v2's program allow the same, which is what the
//! list says. Any resources: what is written is a file of the cgroup.

use tinyd_core::{Kind, oci};
use tinyd_sys::bpf::{self, Insn};

use super::{convert, devices::Filter, systemd::names::Names, tree::CgroupPath};
use crate::fuzz::Draw;

/// A path as text, as it is written and as systemd has it (`slice:prefix:name`).
///
/// # Panics
/// When a promise is broken.
pub fn cgroup_path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    systemds_path(text);
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let path = match CgroupPath::parse(text) {
        Ok(path) => path,
        Err(error) => {
            assert_eq!((error.kind(), error.field()), (Kind::InvalidArgument, Some("linux.cgroupsPath")));
            assert!(!is_path(text, &parts), "{text:?} is refused: {error}");
            return;
        }
    };
    assert!(is_path(text, &parts), "{text:?} is taken");
    let relative = path.relative();
    assert_eq!(relative, parts.join("/"), "{text:?}");
    for again in [relative.clone(), format!("/{relative}"), format!("//{relative}/")] {
        // The length is that of what is written.
        assert!(again.len() > 2048 || CgroupPath::parse(&again).ok().as_ref() == Some(&path), "{again:?}");
    }
}

fn systemds_path(text: &str) {
    for user in [false, true] {
        let names = match Names::parse(Some(text), "id", user) {
            Ok(names) => names,
            Err(error) => {
                let told = (error.kind(), error.field());
                assert_eq!(told, (Kind::InvalidArgument, Some("linux.cgroupsPath")), "{text:?}: {error}");
                continue;
            }
        };
        let plain = |name: &str| !name.contains('/') && !name.chars().any(char::is_control);
        assert!(plain(&names.unit) && plain(&names.slice), "{names:?}");
        let path: Vec<&str> = names.path.split('/').skip(1).collect();
        if names.unit == "-.slice" {
            assert_eq!(names.path, "/", "{text:?}");
            continue;
        }
        assert_eq!(path.last(), Some(&names.unit.as_str()), "{text:?}: {names:?}");
        let above = path.len().checked_sub(2).map(|at| path[at]);
        let is_slice = names.unit.ends_with(".slice");
        let root = names.slice == "-.slice";
        assert!(is_slice || root || above == Some(&*names.slice), "{text:?}: {names:?}");
        assert!(CgroupPath::parse(&names.path).is_ok(), "{text:?}: {names:?}");
    }
}

fn is_path(text: &str, parts: &[&str]) -> bool {
    let name = |part: &&str| {
        part.len() <= 255 && ![".", "..", "tasks"].contains(part) && !part.starts_with("cgroup.")
    };
    !parts.is_empty() && text.len() <= 2048 && !text.contains(char::is_control) && parts.iter().all(name)
}

/// Two lists of rules, as a JSON array each or as the bytes decide: one for the new cgroup, one for an update.
///
/// # Panics
/// When a promise is broken.
pub fn devices(bytes: &[u8]) {
    let (first, second) = if bytes.starts_with(b"[") {
        let mut lists = serde_json::Deserializer::from_slice(bytes).into_iter::<Vec<oci::DeviceRule>>();
        let Some(Ok(first)) = lists.next() else { return };
        (first, lists.next().and_then(Result::ok).unwrap_or_default())
    } else {
        let draw = &mut Draw::new(bytes);
        let first = (0..draw.below(8)).map(|_| rule(draw)).collect();
        (first, (0..draw.below(8)).map(|_| rule(draw)).collect())
    };
    let mut v1 = V1::new();
    for rules in [&first, &second] {
        let Some(filter) = filter(rules) else { continue };
        let list = v1.list();
        for (file, line) in filter.v1_writes(&list) {
            v1.write(file, &line);
        }
        let program = filter.program();
        if rustix::process::geteuid().is_root() {
            bpf::load_device_program(&program).expect("the kernel takes it");
        }
        for node in nodes(rules) {
            same_everywhere(rules, &v1, &program, node);
        }
    }
}

fn filter(rules: &[oci::DeviceRule]) -> Option<Filter> {
    match Filter::new(rules) {
        Ok(filter) => Some(filter),
        Err(error) => {
            assert_eq!(error.field(), Some("linux.resources.devices"), "{error}");
            assert!(error.kind() == Kind::Unsupported || !rules.iter().all(is_rule), "{error}: {rules:?}");
            None
        }
    }
}

fn is_rule(rule: &oci::DeviceRule) -> bool {
    let number =
        |number: Option<i64>| number.is_none_or(|number| (-1..=i64::from(i32::MAX)).contains(&number));
    ["a", "b", "c", "u", ""].contains(&rule.kind.as_deref().unwrap_or(""))
        && rule.access.as_deref().unwrap_or("").chars().all(|letter| "rwm".contains(letter))
        && number(rule.major)
        && number(rule.minor)
}

/// A kind (1 is a block device, 2 a character device, as the kernel's context has it), a major and a minor number.
type Node = (u32, u32, u32);

/// Those that the rules name, their neighbours, and some of the standard ones.
fn nodes(rules: &[oci::DeviceRule]) -> Vec<Node> {
    let mut numbers = vec![(1, 3), (1, 11), (5, 0), (5, 1), (136, 7), (7, 7)];
    for rule in rules {
        let some =
            |number: Option<i64>| number.map_or(7, |number| number.clamp(0, i64::from(i32::MAX)) as u32);
        let (major, minor) = (some(rule.major), some(rule.minor));
        numbers.extend([(major, minor), (major, minor ^ 1), (major ^ 1, minor)]);
    }
    numbers.iter().flat_map(|(major, minor)| [(1, *major, *minor), (2, *major, *minor)]).collect()
}

fn same_everywhere(rules: &[oci::DeviceRule], v1: &V1, program: &[Insn], node: Node) {
    for access in 1..8 {
        let v2 = run(program, node, access);
        assert_eq!(v1.allows(node, access), v2, "v1 and v2 differ: {node:?}, access {access}, {rules:?}");
        let bits = [1, 2, 4].into_iter().filter(|bit| access & bit != 0);
        let all = bits.map(|bit| says(rules, node, bit)).fold(true, |all, one| all & one);
        // Together, two rules that have a part each allow nothing: the kernel's controller knows no sum.
        let exact = access.count_ones() == 1;
        assert!(if exact { all == v2 } else { all | !v2 }, "{node:?}, access {access}, {rules:?}: {v2}");
    }
}

/// The plainest reading: the last rule that names a node decides, and the standard nodes can be had.
fn says(rules: &[oci::DeviceRule], (kind, major, minor): Node, access: u32) -> bool {
    let over = |of: Option<i64>, number: u32| of.is_none_or(|of| of == -1 || of == i64::from(number));
    let all = |rule: &oci::DeviceRule| {
        let word = rule.access.as_deref().unwrap_or("");
        let whole = word.is_empty() || "rwm".chars().all(|letter| word.contains(letter));
        let any = |number: Option<i64>| number.is_none_or(|number| number == -1);
        match rule.kind.as_deref().unwrap_or("") {
            "a" => true,
            "" => whole && any(rule.major) && any(rule.minor),
            _ => false,
        }
    };
    let names = |rule: &&oci::DeviceRule| {
        let of = match rule.kind.as_deref().unwrap_or("") {
            "b" => kind == 1,
            "c" | "u" => kind == 2,
            _ => true,
        };
        let letter = ["m", "r", "w"][access.trailing_zeros() as usize];
        let word = rule.access.as_deref().filter(|word| !word.is_empty()).unwrap_or("rwm");
        all(rule) || (of && over(rule.major, major) && over(rule.minor, minor) && word.contains(letter))
    };
    let listed = rules.iter().rfind(names).is_some_and(|rule| rule.allow);
    let open = rules.iter().rfind(|rule| all(rule)).is_some_and(|rule| rule.allow);
    let standard = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
    let given = access == 1 || (kind == 2 && (major == 136 || standard.contains(&(major, minor))));
    listed || (!open && given)
}

/// The program on the kernel's machine.
fn run(program: &[Insn], (kind, major, minor): Node, access: u32) -> bool {
    let context = [access << 16 | kind, major, minor];
    let mut registers = [0_u64; 16];
    let mut at = 0_usize;
    loop {
        let (code, regs, offset, value) = program[at].fields();
        let (to, from) = (usize::from(regs & 15), usize::from(regs >> 4));
        let wide = i64::from(value) as u64;
        at += 1;
        let skips = match code {
            0x61 => {
                assert_eq!(from, 1, "the context is in R1");
                registers[to] = context[offset as usize / 4].into();
                // Gone, as far as this machine is concerned: nothing may be loaded once it is written over.
                false
            }
            0xb7 => {
                registers[to] = wide;
                false
            }
            0xbf => {
                registers[to] = registers[from];
                false
            }
            0x57 => {
                registers[to] &= wide;
                false
            }
            0x77 => {
                registers[to] >>= wide;
                false
            }
            0x15 => registers[to] == wide,
            0x55 => registers[to] != wide,
            0x5d => registers[to] != registers[from],
            0x95 => return registers[0] != 0,
            other => panic!("instruction {other:#x}"),
        };
        if skips {
            at = at.checked_add_signed(offset.into()).expect("a jump forward");
        }
    }
}

/// The kernel's v1 controller: "all but these" or "none but these".
struct V1 {
    allow: bool,
    except: Vec<(u32, Option<u32>, Option<u32>, u32)>,
}

impl V1 {
    /// That of a new cgroup on a host that denies nothing.
    fn new() -> V1 {
        V1 { allow: true, except: Vec::new() }
    }

    fn list(&self) -> String {
        if self.allow {
            return "a *:* rwm\n".to_owned();
        }
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let line = |(kind, major, minor, access): &(u32, Option<u32>, Option<u32>, u32)| {
            let letters: String = [(2, 'r'), (4, 'w'), (1, 'm')]
                .iter()
                .filter(|(bit, _)| access & bit != 0)
                .map(|(_, l)| *l)
                .collect();
            format!(
                "{} {}:{} {letters}\n",
                if *kind == 1 { 'b' } else { 'c' },
                number(*major),
                number(*minor)
            )
        };
        self.except.iter().map(line).collect()
    }

    fn write(&mut self, file: &str, line: &str) {
        let allow = file == "devices.allow";
        assert!(allow || file == "devices.deny", "{file}");
        if line == "a" {
            *self = V1 { allow, except: Vec::new() };
            return;
        }
        let words: Vec<&str> = line.split([' ', ':']).collect();
        let [kind, major, minor, access] = words[..] else { panic!("{line:?} is not a line") };
        let number = |text: &str| (text != "*").then(|| text.parse().expect("a number"));
        let (kind, major, minor) = (if kind == "b" { 1 } else { 2 }, number(major), number(minor));
        let access = access.chars().fold(0, |bits, letter| {
            bits | match letter {
                'm' => 1,
                'r' => 2,
                'w' => 4,
                other => panic!("{other} is not an access"),
            }
        });
        let same =
            |one: &&mut (u32, Option<u32>, Option<u32>, u32)| (one.0, one.1, one.2) == (kind, major, minor);
        let known = self.except.iter_mut().find(same);
        match (allow == self.allow, known) {
            (true, Some(known)) => known.3 &= !access,
            (true, None) => {}
            (false, Some(known)) => known.3 |= access,
            (false, None) => self.except.push((kind, major, minor, access)),
        }
        self.except.retain(|one| one.3 != 0);
    }

    fn allows(&self, (kind, major, minor): Node, access: u32) -> bool {
        let names = |one: &&(u32, Option<u32>, Option<u32>, u32)| {
            one.0 == kind && one.1.is_none_or(|of| of == major) && one.2.is_none_or(|of| of == minor)
        };
        let mut named = self.except.iter().filter(names);
        if self.allow { !named.any(|one| one.3 & access != 0) } else { named.any(|one| access & !one.3 == 0) }
    }
}

fn rule(draw: &mut Draw<'_>) -> oci::DeviceRule {
    let word = |word: &&str| Some((*word).to_owned());
    let number = |draw: &mut Draw<'_>| match draw.byte() {
        0..=95 => None,
        96..=127 => Some(-1),
        128..=250 => Some(*draw.one_of(&[1, 3, 5, 7, 8, 136, i64::from(i32::MAX)])),
        251..=255 => Some(draw.number() as i64),
    };
    oci::DeviceRule {
        allow: draw.byte() & 1 != 0,
        kind: match draw.byte() {
            0..=31 => None,
            32..=255 => word(draw.one_of(&["c", "c", "b", "a", "u", "", "x"])),
        },
        major: number(draw),
        minor: number(draw),
        access: match draw.byte() {
            0..=63 => None,
            64..=255 => word(draw.one_of(&["rwm", "r", "w", "m", "rw", "rm", "wm", "mr", "x"])),
        },
    }
}

/// What is written for resources: files of the cgroup, one line each.
pub(crate) fn resources(resources: &oci::Resources) {
    for settings in [convert::v1(resources), convert::v2(resources)] {
        match settings {
            Ok(settings) => {
                for setting in settings {
                    let file = &*setting.file;
                    assert!(
                        file.contains('.')
                            && !file.contains('/')
                            && !file.starts_with('.')
                            && !file.contains('\0'),
                        "{setting:?}"
                    );
                    assert!(!file.starts_with("cgroup."), "{setting:?}");
                }
            }
            Err(error) => {
                let field = error.field().unwrap_or_default();
                assert!(field.starts_with("linux.resources"), "{error}");
            }
        }
    }
    filter(&resources.devices);
}
