//! Somebody with a volume in hand exchanges what is on the way to a mount's place with links that lead out, while containers start.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::fs::RenameFlags;
use serde_json::json;

use crate::driver::{Bundle, Said};

/// Containers that are started at least.
const STARTS: u32 = 30;

/// How long containers are started at least: `TINYD_SWAP_SECONDS`.
fn at_least() -> Duration {
    let seconds = std::env::var("TINYD_SWAP_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Exchanges pairs of names for as long as it lives.
struct Swapper {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Swapper {
    /// Directories, and what is exchanged in them.
    fn new(pairs: &[(PathBuf, &'static str, &'static str)]) -> Swapper {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = pairs.iter().map(|(dir, one, other)| {
            // By descriptor, so that a directory that has another name just now is found all the same.
            let dir = File::open(dir).unwrap();
            let (one, other, stop, count) = (*one, *other, Arc::clone(&stop), Arc::clone(&count));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed)
                    && rustix::fs::renameat_with(&dir, one, &dir, other, RenameFlags::EXCHANGE).is_ok()
                {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Swapper { stop, count, threads }
    }

    fn exchanges(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Everything below a directory, with contents and modes.
fn listing(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        all.push(format!("{} {:?} {:?}", path.display(), meta.permissions(), meta.modified().unwrap()));
        if meta.is_dir() {
            all.extend(listing(&path));
        }
    }
    all.sort();
    all
}

/// A place outside that has everything that a mount could land on, and a volume in which `a` and `a/b` are at times links to it.
fn trap(bundle: &Bundle) -> (PathBuf, PathBuf) {
    let (volume, outside) = (bundle.dir.join("volume"), bundle.dir.join("outside"));
    for dir in ["b", "made", "tmpfs", "bind", "covered", "ro"] {
        fs::create_dir_all(outside.join(dir)).unwrap();
        fs::create_dir_all(outside.join("b").join(dir)).unwrap();
    }
    fs::write(outside.join("file"), "outside\n").unwrap();
    fs::create_dir_all(volume.join("a/b")).unwrap();
    for dir in ["covered", "ro"] {
        fs::create_dir_all(volume.join("a/b").join(dir)).unwrap();
    }
    // By an absolute path of the host and by climbing.
    symlink(&outside, volume.join("link")).unwrap();
    let up = format!("{}{}", "../".repeat(20), outside.join("b").strip_prefix("/").unwrap().display());
    symlink(up, volume.join("a/link")).unwrap();
    // They exist inside too: what goes through a link lands there.
    let inside = bundle.rootfs(outside.join("b").strip_prefix("/").unwrap().to_str().unwrap());
    for dir in ["covered", "ro"] {
        fs::create_dir_all(inside.join(dir)).unwrap();
    }
    (volume, outside)
}

/// Starts containers until the time is over; how many ran, and in how many something was mounted through a link.
fn start_many(bundle: &Bundle, mounted: &[&str], judge: impl Fn(&Said)) -> (u32, u32) {
    let (begun, mut ran, mut through_links) = (Instant::now(), 0, 0);
    let mut tries = 0;
    while ran < STARTS || begun.elapsed() < at_least() {
        tries += 1;
        assert!(tries < 100 * STARTS || ran > tries / 20, "{ran} of {tries} containers could be started");
        let said = bundle.run();
        judge(&said);
        if said.code != 0 {
            // The place was a link at one look and a directory at the next: the runtime says so and gives up.
            let told = [
                "its destination changed",
                "Too many levels",
                "File exists",
                "No such file",
                "Not a directory",
                "try again",
                "Read-only",
            ];
            assert!(told.iter().any(|words| said.err.contains(words)), "{said:?}");
            continue;
        }
        ran += 1;
        // What has landed outside of the root is lost with the old root: it is in no list inside.
        for name in mounted {
            assert!(said.out.contains(name), "{name}: {said:?}");
        }
        through_links += u32::from(
            !said.out.lines().filter(|line| line.contains("in-volume")).all(|line| line.contains(" /vol/")),
        );
    }
    (ran, through_links)
}

/// CVE-2021-30465, CVE-2024-45310: mounts, directories made for them, devices, the working directory, masks.
#[test]
fn nothing_lands_outside_while_path_components_are_exchanged() {
    let bundle = Bundle::new("swap").script("cat /proc/self/mountinfo");
    let (volume, outside) = trap(&bundle);
    let before = listing(&outside);
    let data = bundle.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "data\n").unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut bundle = bundle
        .mount("/vol", "bind", &text(&volume), &["rbind"])
        .mount("/vol/a/b/tmpfs", "tmpfs", "in-volume-1", &[])
        .mount("/vol/a/b/made/deep/er", "tmpfs", "in-volume-2", &[])
        .mount("/vol/a/b", "tmpfs", "tmpfs", &["tmpcopyup", "size=76k"])
        .mount("/vol/a/file", "bind", &text(&data.join("file")), &["bind"])
        .mount("/vol/a/bind", "bind", &text(&data), &["rbind", "ro"])
        .mount("/vol/a", "tmpfs", "in-volume-3", &[]);
    bundle.spec["process"]["cwd"] = json!("/vol/a/b/made/cwd");
    bundle.spec["linux"]["devices"] =
        json!([{ "path": "/vol/a/dev/null", "type": "c", "major": 1, "minor": 3 }]);
    bundle.spec["linux"]["maskedPaths"] = json!(["/vol/a/b/covered"]);
    bundle.spec["linux"]["readonlyPaths"] = json!(["/vol/a/b/ro"]);
    let swapper = Swapper::new(&[(volume.clone(), "a", "link"), (volume.join("a"), "b", "link")]);
    let names = ["in-volume-1", "in-volume-2", "in-volume-3", "size=76k"];
    let (ran, through_links) = start_many(&bundle, &names, |_| {
        assert_eq!(listing(&outside), before);
    });
    let exchanges = swapper.exchanges();
    drop(swapper);
    let seen =
        format!("{ran} containers, {through_links} with a mount through a link, {exchanges} exchanges");
    assert!(exchanges > u64::from(ran) && through_links > 0, "not in the way: {seen}");
    #[expect(clippy::print_stderr, reason = "how hard it was tried")]
    {
        eprintln!("{seen}");
    }
}

/// Where a container's mounts are: place and source.
fn mounts_of(pid: &serde_json::Value) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ").unwrap();
        (left.split(' ').nth(4).unwrap().to_owned(), right.split(' ').nth(1).unwrap().to_owned())
    };
    text.lines().map(mount).collect()
}

/// A container that runs is joined before anything is looked up in it: the host is out of reach but by descriptors of whoever joins, and
/// what is left to be led to is /proc.
#[test]
fn nothing_lands_outside_while_a_container_is_added_to() {
    let bundle = Bundle::new("swap-added").args(&["sleep", "1000"]);
    let (volume, data) = (bundle.dir.join("volume"), bundle.dir.join("data"));
    fs::create_dir_all(volume.join("to-proc/sys")).unwrap();
    fs::create_dir(&data).unwrap();
    symlink("/proc", volume.join("proc")).unwrap();
    let before = listing(&data);
    let bundle = bundle.mount("/vol", "bind", volume.to_str().unwrap(), &["rbind"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let pid = bundle.state()["pid"].clone();
    let change = |change: &str, mount: serde_json::Value| {
        let list = bundle.dir.join("mounts.json");
        fs::write(&list, json!([mount]).to_string()).unwrap();
        bundle.tinyrun(&["mounts", change, &bundle.id, list.to_str().unwrap()]).code == 0
    };
    let to_proc = json!({ "destination": "/vol/to-proc/sys", "type": "tmpfs", "source": "in-volume" });
    let swapper = Swapper::new(&[(volume.clone(), "to-proc", "proc")]);
    let (begun, mut tries) = (Instant::now(), 0);
    let [mut added, mut removed, mut entered] = [0_u32; 3];
    // How often it is refused is a matter of luck, and of how slow the machine is.
    while [added, removed, entered].contains(&0) || tries < STARTS || begun.elapsed() < at_least() {
        let number = 3 + tries % 8;
        tries += 1;
        // Each time a descriptor of another number, in a directory of its own.
        let there = format!("/vol/{tries}/to-fd");
        let dir = volume.join(tries.to_string());
        fs::create_dir_all(dir.join("to-fd")).unwrap();
        symlink(format!("/proc/self/fd/{number}"), dir.join("fd")).unwrap();
        let led_astray = Swapper::new(&[(dir, "to-fd", "fd")]);
        added += u32::from(change("add", to_proc.clone()));
        let mounts = mounts_of(&pid);
        let in_proc =
            |(place, source): &&(String, String)| place.starts_with("/proc") && source == "in-volume";
        assert_eq!(mounts.iter().find(in_proc), None);
        removed += u32::from(change("remove", to_proc.clone()));
        assert!(mounts_of(&pid).iter().any(|(place, _)| place == "/proc/sys"), "what protects it is gone");
        // Its place is made: in what is mounted, if that is where the descriptor leads.
        let to_fd = json!({ "destination": format!("{there}/made"), "type": "bind", "source": data, "options": ["bind"] });
        change("add", to_fd);
        assert_eq!(listing(&data), before);
        let said = bundle.tinyrun(&["exec", "--cwd", &there, &bundle.id, "ls"]);
        assert!(said.code != 0 || ["", "made"].contains(&said.out.as_str()), "{number}: {said:?}");
        entered += u32::from(said.code == 0);
        drop(led_astray);
        let all = [added, removed, entered];
        assert!(tries < 50 * STARTS || !all.contains(&0), "added, removed, entered: {all:?}");
    }
    assert!(swapper.exchanges() > u64::from(tries), "not in the way: {tries}");
}
