//! What a test must not leave behind, and how it is taken away when it does.
//!
//! The judge asks the kernel, never the product: mounts, links, firewall rules, cgroups, processes, descriptors, files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{Host, Sandbox, output, patience};

const CGROUPS: &str = "/sys/fs/cgroup";
/// Teardown that is off the critical path (the deletion of a veth takes 15 ms) has this long.
const GRACE: Duration = Duration::from_secs(3);

/// What the host had before the daemon came.
#[derive(Debug)]
pub(crate) struct Baseline {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    elements: BTreeSet<String>,
}

impl Baseline {
    pub(crate) fn take(host: &Host) -> Baseline {
        Baseline {
            mounts: mount_points(host).into_iter().collect(),
            links: host.links().into_iter().collect(),
            elements: BTreeSet::new(),
        }
    }

    /// Notes a mount that the test has made for its host.
    pub(crate) fn allow_mount(&mut self, point: &str) {
        self.mounts.insert(point.to_owned());
    }

    /// Notes what the firewall has now: a daemon that serves, and no container yet.
    pub(crate) fn take_firewall(&mut self, host: &Host) {
        self.elements = elements(host).unwrap_or_default();
    }
}

/// Removes what the product is asked to remove, stops the daemon, and lists what is left.
pub(crate) fn check(sandbox: &mut Sandbox) -> Vec<String> {
    let mut left = Vec::new();
    if sandbox.daemon.is_some() {
        left.extend(remove_everything(sandbox));
    }
    left.extend(until_gone(|| links(sandbox)));
    left.extend(until_gone(|| firewall(sandbox)));
    left.extend(until_gone(|| processes(sandbox, true)));
    left.extend(until_gone(|| descriptors(sandbox)));
    if sandbox.daemon.is_some() {
        let status = sandbox.stop_daemon();
        if status != 0 {
            left.push(format!("the daemon ended with status {status} after SIGTERM"));
        }
    }
    left.extend(until_gone(|| mounts(sandbox)));
    left.extend(until_gone(|| cgroups(sandbox)));
    left.extend(until_gone(|| processes(sandbox, false)));
    left.extend(files(sandbox));
    left
}

fn until_gone(mut look: impl FnMut() -> Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + patience(GRACE);
    loop {
        let left = look();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `rm -f` of every container and `network delete` of every network that a user made.
fn remove_everything(sandbox: &Sandbox) -> Vec<String> {
    let mut left = Vec::new();
    let mut ask = |args: &[&str]| {
        let out = sandbox.tinyd(args);
        if !out.ok() {
            left.push(format!("{} → {}: {}", out.line, out.code, out.stderr.trim()));
        }
        out.stdout
    };
    let ids = ask(&["ps", "-aq"]);
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if !ids.is_empty() {
        ask(&[&["rm", "-f"], ids.as_slice()].concat());
    }
    let networks = ask(&["network", "ls", "-q"]);
    for name in networks.split_whitespace().filter(|name| !matches!(*name, "Tiny-docker" | "host" | "none")) {
        ask(&["network", "delete", name]);
    }
    left
}

/// Links beyond the first ones and the default network's bridge, which lives on.
fn links(sandbox: &Sandbox) -> Vec<String> {
    let now = sandbox.host.links().into_iter();
    let extra = now.filter(|link| !sandbox.baseline.links.contains(link) && link != "Tiny-docker");
    extra.filter(|link| !link.starts_with("cable")).map(|link| format!("link {link}")).collect()
}

/// Elements of nftables maps and sets that were not there before the first container. Tables, chains and what belongs to the
/// default network live on.
fn firewall(sandbox: &Sandbox) -> Vec<String> {
    match elements(&sandbox.host) {
        Ok(now) => now
            .difference(&sandbox.baseline.elements)
            .map(|element| format!("nft element of {element}"))
            .collect(),
        Err(error) => vec![error],
    }
}

fn elements(host: &Host) -> Result<BTreeSet<String>, String> {
    let ruleset = host.sh("nft -j list ruleset");
    if !ruleset.ok() {
        return Err(format!("nft -j list ruleset: {}", ruleset.stderr.trim()));
    }
    let ruleset: Value =
        serde_json::from_str(&ruleset.stdout).map_err(|error| format!("nft -j list ruleset: {error}"))?;
    let objects = ruleset["nftables"].as_array().into_iter().flatten();
    let holders = objects.flat_map(|object| [&object["map"], &object["set"]]);
    let named = holders.flat_map(|holder| {
        let name = holder["name"].as_str().unwrap_or("?");
        holder["elem"].as_array().into_iter().flatten().map(move |element| format!("{name}: {element}"))
    });
    Ok(named.collect())
}

/// Mounts that were not there before, or are below the daemon's directories.
fn mounts(sandbox: &Sandbox) -> Vec<String> {
    let now = mount_points(&sandbox.host).into_iter();
    now.filter(|mount| !sandbox.baseline.mounts.contains(mount))
        .map(|mount| format!("mount {mount}"))
        .collect()
}

fn mount_points(host: &Host) -> Vec<String> {
    let point = |line: String| line.split(' ').nth(4).map(str::to_owned);
    host.mounts().into_iter().filter_map(point).collect()
}

/// Directories in any cgroup hierarchy that are named after the daemon or one of its containers.
fn cgroups(sandbox: &Sandbox) -> Vec<String> {
    cgroup_dirs(sandbox).iter().map(|dir| format!("cgroup {}", dir.display())).collect()
}

fn cgroup_dirs(sandbox: &Sandbox) -> Vec<PathBuf> {
    let names = names(sandbox);
    let mut found = Vec::new();
    walk_cgroups(Path::new(CGROUPS), 5, &mut |dir| {
        if names.iter().any(|name| names_a_part(&dir.to_string_lossy(), name)) {
            found.push(dir.to_owned());
        }
    });
    found
}

/// What kernel objects of this sandbox have in their names: the daemon's tag, which it makes from its run directory, the run
/// directory itself, and the ids of all containers that ever were.
fn names(sandbox: &Sandbox) -> Vec<String> {
    let ids = sandbox.seen.lock().expect("the ids").clone();
    [tag(&sandbox.run_dir), name_of(&sandbox.run_dir)].into_iter().chain(ids).collect()
}

/// The tag by which a daemon tells its kernel objects from those of others: FNV-1a of its run directory. Two daemons of
/// different versions must agree on it, so a change of it is a change that a test should see.
fn tag(run_dir: &Path) -> String {
    let hash = run_dir.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}

/// Whether a part of a path carries the name, and not a longer one: `te-1-2` is not `te-1-20`.
fn names_a_part(path: &str, name: &str) -> bool {
    path.match_indices(name).any(|(at, _)| !path[at + name.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

fn walk_cgroups(dir: &Path, depth: u32, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        visit(&entry.path());
        if depth > 0 {
            walk_cgroups(&entry.path(), depth - 1, visit);
        }
    }
}

/// Processes that live on this host (its mount namespace), or in one of its cgroups. The daemon itself is fine while it runs.
fn processes(sandbox: &Sandbox, with_daemon: bool) -> Vec<String> {
    let daemon = sandbox.daemon.as_ref().map(std::process::Child::id).filter(|_| with_daemon);
    let found =
        process_ids(sandbox).into_iter().filter(|pid| Some(*pid) != daemon && !is_daemon(sandbox, *pid));
    found.map(|pid| format!("process {pid}: {}", command_line(pid))).collect()
}

/// What a tracer traces: its first child.
pub(crate) fn traced_by(pid: u32) -> Option<u32> {
    let is_tracer = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "strace");
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next().filter(|_| is_tracer)?.parse().ok()
}

/// Whether this is the daemon behind a tracer.
fn is_daemon(sandbox: &Sandbox, pid: u32) -> bool {
    sandbox.daemon.is_some() && {
        let line = command_line(pid);
        line.contains("tinyd daemon") && line.contains(&*sandbox.run_dir.to_string_lossy())
    }
}

fn process_ids(sandbox: &Sandbox) -> Vec<u32> {
    let host = fs::read_link(format!("/proc/{}/ns/mnt", sandbox.host.pid())).ok();
    let names = names(sandbox);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let belongs = |pid: &u32| {
        let here = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok().is_some_and(|ns| Some(ns) == host);
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        here || names.iter().any(|name| names_a_part(&groups, name))
    };
    pids.filter(|pid| *pid != sandbox.host.pid() && belongs(pid) && !is_zombie(*pid)).collect()
}

/// The process of this sandbox that has this command line.
pub(crate) fn process_of(sandbox: &Sandbox, command: &[&str]) -> Option<u32> {
    let line: Vec<u8> = command.iter().flat_map(|arg| arg.bytes().chain([0])).collect();
    process_ids(sandbox)
        .into_iter()
        .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|had| had == line))
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// Descriptors of the daemon that belong to a container: a namespace, a pidfd, a shim's socket.
fn descriptors(sandbox: &Sandbox) -> Vec<String> {
    let Some(daemon) = &sandbox.daemon else { return Vec::new() };
    let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", daemon.id())) else { return Vec::new() };
    let targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = targets.map(|target| target.to_string_lossy().into_owned());
    let of_container = |name: &String| {
        name.contains("pidfd")
            || name.starts_with("net:[")
            || name.starts_with("mnt:[")
            || name.contains("/containers/")
    };
    names.filter(of_container).map(|name| format!("descriptor of the daemon: {name}")).collect()
}

/// Records of containers, and anything in the run directory that is neither a lock nor an empty directory.
fn files(sandbox: &Sandbox) -> Vec<String> {
    let records = entries(&sandbox.root().join("containers"));
    let mut left: Vec<String> = records.iter().map(|name| format!("file containers/{name}")).collect();
    let mut run = Vec::new();
    walk_files(&sandbox.run_dir, &mut run);
    let known = |path: &PathBuf| {
        let name = name_of(path);
        // The lock is never deleted: a deleted lock can be held by two.
        name.ends_with(".lock") || name == "lock"
    };
    left.extend(run.iter().filter(|path| !known(path)).map(|path| format!("file {}", path.display())));
    left
}

fn walk_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk_files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// Names of a directory's entries; none when it is not there.
pub(crate) fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Takes away whatever is left, so that one failed test does not fail its neighbours.
pub(crate) fn clean(sandbox: &mut Sandbox) {
    if let Some(mut daemon) = sandbox.daemon.take() {
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
    let deadline = Instant::now() + patience(GRACE);
    loop {
        let groups = cgroup_dirs(sandbox);
        thaw(&groups);
        let pids = process_ids(sandbox);
        // A group can be removed a moment after its last process has ended.
        remove_cgroups(groups.clone());
        if (pids.is_empty() && groups.is_empty()) || Instant::now() > deadline {
            break;
        }
        for pid in pids {
            output::kill(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = fs::remove_dir_all(&sandbox.run_dir);
    let _ = fs::remove_dir_all(&sandbox.base);
}

/// A frozen process does not die of SIGKILL before it is thawed (v1).
fn thaw(dirs: &[PathBuf]) {
    for dir in dirs {
        let _ = fs::write(dir.join("freezer.state"), "THAWED");
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
    }
}

fn remove_cgroups(mut dirs: Vec<PathBuf>) {
    // Children before parents.
    dirs.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
    for dir in dirs {
        let _ = fs::remove_dir(dir);
    }
}

/// Takes away what test runs left that were killed: their directories carry the id of a process that is no more.
pub(crate) fn sweep_stale() {
    let is_stale = |name: &str| {
        let pid = name.strip_prefix("te-").and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists())
    };
    for name in entries(Path::new("/dev/shm")).into_iter().filter(|name| is_stale(name)) {
        let run_dir = Path::new("/dev/shm").join(&name);
        let names = [tag(&run_dir), name.clone()];
        let mut groups = Vec::new();
        walk_cgroups(Path::new(CGROUPS), 5, &mut |dir| {
            if names.iter().any(|name| names_a_part(&dir.to_string_lossy(), name)) {
                groups.push(dir.to_owned());
            }
        });
        thaw(&groups);
        for pids in groups.iter().filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok()) {
            pids.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| output::kill(pid, Signal::KILL));
        }
        remove_cgroups(groups);
        let _ = fs::remove_dir_all(run_dir);
        let _ = fs::remove_dir_all(Path::new("/var/tmp").join(name));
    }
}
