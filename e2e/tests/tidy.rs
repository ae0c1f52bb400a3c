//! The repository checks itself: which crate may know which, what never comes into the runtime, where words may stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Result<Value, Box<dyn std::error::Error>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let out = command.current_dir(root()).output()?;
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    Ok(serde_json::from_slice(&out.stdout)?)
}

/// Names of packages by their ids, and for each id the ids of what it needs at run time.
struct Graph {
    names: BTreeMap<String, String>,
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read() -> Result<Graph, Box<dyn std::error::Error>> {
        let all = metadata()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names = list(&all["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let is_normal = |edge: &Value| list(&edge["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let needs = list(&all["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let edges = list(&node["deps"]);
                (
                    text(&node["id"]),
                    edges.iter().filter(|edge| is_normal(edge)).map(|edge| text(&edge["pkg"])).collect(),
                )
            })
            .collect();
        Ok(Graph { names, needs })
    }

    fn id(&self, name: &str) -> &str {
        let found = self.names.iter().find(|(_, had)| *had == name);
        found.map_or_else(|| panic!("no package {name}"), |(id, _)| id)
    }

    /// Names of everything that a package needs, near and far.
    fn below(&self, name: &str) -> BTreeSet<&str> {
        let (mut seen, mut open) = (BTreeSet::new(), vec![self.id(name)]);
        while let Some(id) = open.pop() {
            for next in self.needs.get(id).into_iter().flatten() {
                if seen.insert(self.names[next].as_str()) {
                    open.push(next);
                }
            }
        }
        seen
    }

    /// Names of the workspace's crates that a package needs itself.
    fn arrows(&self, name: &str) -> BTreeSet<&str> {
        let near = self.needs.get(self.id(name)).into_iter().flatten();
        near.map(|id| self.names[id].as_str()).filter(|name| name.starts_with("tinyd")).collect()
    }
}

#[test]
fn the_runtime_has_no_async_no_grpc_no_tls() -> Outcome {
    let graph = Graph::read()?;
    let below = graph.below("tinyd-runtime");
    assert!(below.contains("rustix"), "the graph is read wrongly: {below:?}");
    for banned in [
        "tokio",
        "tonic",
        "prost",
        "hyper",
        "h2",
        "tower",
        "rustls",
        "ring",
        "mio",
        "futures-util",
        "clap",
        "regex",
    ] {
        assert!(!below.contains(banned), "tinyrun needs {banned}");
    }
    Ok(())
}

/// The fuzzers are outside of the workspace: nobody builds them by the way.
#[test]
fn the_fuzzers_lock_file_knows_all_that_the_runtime_needs() -> Outcome {
    let lock = fs::read_to_string(root().join("fuzz/Cargo.lock"))?;
    let graph = Graph::read()?;
    let below = graph.below("tinyd-runtime");
    assert!(below.len() > 20, "{below:?}");
    let missing: Vec<&&str> =
        below.iter().filter(|name| !lock.contains(&format!("\nname = \"{name}\"\n"))).collect();
    assert!(missing.is_empty(), "`cargo check` in fuzz/ writes down what is missing there: {missing:?}");
    Ok(())
}

#[test]
fn arrows_point_downwards() -> Outcome {
    let graph = Graph::read()?;
    for (name, may) in [
        ("tinyd-core", &[][..]),
        ("tinyd-sys", &[]),
        ("tinyd-seccomp", &["tinyd-core", "tinyd-sys"]),
        ("tinyd-image", &["tinyd-core", "tinyd-sys"]),
        ("tinyd-net", &["tinyd-core", "tinyd-sys"]),
        ("tinyd-runtime", &["tinyd-core", "tinyd-sys", "tinyd-seccomp"]),
        ("tinyd-engine", &["tinyd-core", "tinyd-sys", "tinyd-image", "tinyd-net"]),
        ("tinyd", &["tinyd-core", "tinyd-sys", "tinyd-engine"]),
        ("tinyd-e2e", &[]),
    ] {
        let may: BTreeSet<&str> = may.iter().copied().collect();
        let strangers: Vec<_> = graph.arrows(name).difference(&may).copied().collect();
        assert!(
            strangers.is_empty(),
            "{name} knows {strangers:?}; docs/architecture says it may know {may:?}"
        );
    }
    Ok(())
}

#[test]
fn banned_crates_are_nowhere() -> Outcome {
    let graph = Graph::read()?;
    let all: BTreeSet<&str> = graph.below("tinyd").union(&graph.below("tinyd-runtime")).copied().collect();
    for banned in [
        "aws-lc-sys",
        "openssl-sys",
        "native-tls",
        "libseccomp-sys",
        "libbpf-sys",
        "rustables",
        "serde_yaml",
        "nix",
        "tokio-tar",
    ] {
        assert!(!all.contains(banned), "{banned} is in the binaries");
    }
    // Others bring it along (tracing-subscriber, x509-parser); the language has it now, so ours do without.
    for (id, needs) in graph.needs.iter().filter(|(id, _)| graph.names[*id].starts_with("tinyd")) {
        assert!(!needs.iter().any(|need| graph.names[need] == "lazy_static"), "{id} needs lazy_static");
    }
    Ok(())
}

/// Files that git knows, or that are new and not ignored.
fn tracked(suffixes: &[&str]) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let out =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root()).output()?;
    assert!(out.status.success(), "git ls-files: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout)?;
    let wanted = text
        .lines()
        .filter(|line| suffixes.is_empty() || suffixes.iter().any(|suffix| line.ends_with(suffix)));
    Ok(wanted.map(PathBuf::from).filter(|path| root().join(path).is_file()).collect())
}

#[test]
fn unsafe_is_in_sys_alone() -> Outcome {
    for path in tracked(&[".rs"])?.iter().filter(|path| !path.starts_with("crates/sys")) {
        let text = fs::read_to_string(root().join(path))?;
        let word = ["unsafe", " {"].concat();
        let found =
            text.lines().position(|line| !line.trim_start().starts_with("//") && line.contains(&word));
        assert!(found.is_none(), "{}:{}", path.display(), found.unwrap_or(0) + 1);
    }
    for crate_dir in ["core", "runtime", "image", "net", "engine", "tinyd"] {
        let manifest = fs::read_to_string(root().join("crates").join(crate_dir).join("Cargo.toml"))?;
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "crates/{crate_dir} leaves the workspace's lints"
        );
    }
    Ok(())
}

#[test]
fn pb_types_stay_in_the_api() -> Outcome {
    for path in tracked(&[".rs"])?
        .iter()
        .filter(|path| path.starts_with("crates") && !path.starts_with("crates/tinyd"))
    {
        let text = fs::read_to_string(root().join(path))?;
        assert!(!text.contains("prost::") && !text.contains("tonic::"), "{} knows protobuf", path.display());
    }
    Ok(())
}

#[test]
fn the_tree_stands_alone() -> Outcome {
    // Places that exist on a developer's machine only.
    let words = [["..", "/shared"].concat(), ["/wo", "rk/"].concat()];
    for path in tracked(&[])? {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} mentions {word}", path.display());
        }
    }
    Ok(())
}

/// Words of a line in backticks that are what `is` says.
fn quoted(line: &str, is: impl Fn(&str) -> bool) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).filter(|word| is(word)).collect()
}

#[test]
fn what_the_table_of_threats_names_is_there() -> Outcome {
    let text = fs::read_to_string(root().join("docs/threats.md"))?;
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| threat") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    assert!(rows.len() > 20, "the table is read wrongly: {rows:?}");
    for row in &rows {
        let [threat, _, places, tests, _] = row.as_slice() else { panic!("not five cells: {row:?}") };
        let threat = threat.trim();
        let places = quoted(places, |word| word.contains('/'));
        let tests = quoted(tests, |word| word.contains(".rs: "));
        assert!(!places.is_empty() && !tests.is_empty(), "{threat}: no file or no test");
        for place in places {
            assert!(root().join(place).is_file(), "{threat}: {place} is not there");
        }
        for test in tests {
            let (file, name) = test.split_once(": ").ok_or("no name")?;
            let source = fs::read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
            let lines: Vec<&str> = source.lines().map(str::trim).collect();
            let begins = format!("fn {name}(");
            let at = lines.iter().position(|line| line.trim_start_matches("async ").starts_with(&begins));
            let at = at.unwrap_or_else(|| panic!("{threat}: {file} has no {name}"));
            let before = at.checked_sub(1).map(|before| lines[before]);
            assert!(matches!(before, Some("#[test]" | "#[tokio::test]")), "{name} is no test");
        }
    }
    Ok(())
}

#[test]
fn every_file_says_what_it_is_for() -> Outcome {
    for path in tracked(&[".rs"])?.iter().filter(|path| !path.ends_with("tests.rs")) {
        let text = fs::read_to_string(root().join(path))?;
        let generated = text.contains("@generated");
        assert!(generated || text.starts_with("//!"), "{} has no header", path.display());
    }
    Ok(())
}

#[test]
fn rooms_stay_small() -> Outcome {
    // A file past 600 lines is told, not refused: it may still have one subject.
    for path in tracked(&[".rs"])? {
        let text = fs::read_to_string(root().join(&path))?;
        let lines = text.lines().count();
        if lines > 600 && !text.contains("@generated") {
            #[expect(clippy::print_stderr, reason = "told, not refused")]
            {
                eprintln!("{} has {lines} lines", path.display());
            }
        }
        assert!(lines <= 1500 || text.contains("@generated"), "{} has {lines} lines", path.display());
    }
    Ok(())
}
