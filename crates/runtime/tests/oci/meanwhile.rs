//! What the first process and its caller do at the same time on v1, in which order each comes to what the other has made, and what of that can
//! be seen.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::json;

use crate::driver::{Bundle, wait_for};

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

impl Bundle {
    /// What `run` does under strace: the lines of the calls of a set, in order, with the number of the process before each.
    fn lines_of_run(&self, set: &str, more: &[&str]) -> Vec<String> {
        self.write();
        let trace = self.dir.join("trace");
        let set = format!("trace={set}");
        let mut tracer = vec!["strace", "-qq", "-y", "-e", &set, "-o", trace.to_str().unwrap()];
        tracer.extend(more);
        self.tinyrun_in(&tracer, &["run", "-b", self.dir.to_str().unwrap(), &self.id]);
        fs::read_to_string(&trace).unwrap().lines().map(str::to_owned).collect()
    }
}

#[test]
fn mounts_are_made_while_the_cgroup_is() {
    let bundle = Bundle::new("meanwhile-order").args(&["true"]);
    let set = "clone3,unshare,fsopen,move_mount,pivot_root,mkdir,mkdirat,write,ioctl,open,renameat2,rename";
    let lines = bundle.lines_of_run(set, &["-f"]);
    let own = format!("tinyrun-{}", bundle.id);
    let at = |what: &str, is: &dyn Fn(&str) -> bool| {
        lines.iter().position(|line| is(line)).unwrap_or_else(|| panic!("no {what}: {lines:#?}"))
    };
    let last = |is: &dyn Fn(&str) -> bool| lines.iter().rposition(|line| is(line)).unwrap();
    let makes_cgroup =
        |line: &str| line.contains("mkdir") && line.contains(&own) && line.contains("/sys/fs/cgroup");
    let record = at("record", &|line| line.contains("rename") && line.contains("state.json"));
    let config = at("configuration", &|line| line.contains("rename") && line.contains("config.json"));
    let (first_cgroup, last_cgroup) = (at("cgroup", &makes_cgroup), last(&makes_cgroup));
    assert!(record < first_cgroup, "{lines:#?}");
    let clone = at("clone", &|line| line.contains("clone3("));
    if is_v2() {
        assert!(config < first_cgroup && last_cgroup < clone, "{lines:#?}");
        return;
    }
    assert!(clone < first_cgroup && last_cgroup < config, "{lines:#?}");
    // The first process is in it.
    let is_record = |line: &&String| line.contains("rename") && line.contains("/state.json\"");
    assert_eq!(lines.iter().filter(is_record).count(), 1, "{lines:#?}");
    // What the kernel takes long for is not made by the clone, which both wait for.
    let makes = |line: &str| ["CLONE_NEWNET", "CLONE_NEWNS", "CLONE_NEWIPC"].map(|kind| line.contains(kind));
    let unshare = at("namespaces", &|line| line.contains("unshare("));
    assert_eq!((makes(&lines[clone]), makes(&lines[unshare])), ([false; 3], [true; 3]), "{lines:#?}");
    // The root, /proc, /dev and what is in it, covered paths; then the view of the cgroup.
    let enters = |line: &str| line.contains("/tasks>, \"0\", 1");
    let mounts = |line: &str| line.contains("move_mount(");
    let entered = at("way into the cgroup", &enters);
    let before = lines[..entered].iter().filter(|line| mounts(line)).count();
    assert!(last_cgroup < entered && before >= 12, "{before} {lines:#?}");
    assert!(at("new root", &|line| line.contains("pivot_root(")) < entered, "{lines:#?}");
    // Its hierarchies are put together by the caller (since Linux 6.15), and all of them put in their place at once.
    let caller = |line: usize| lines[line].split(' ').next().unwrap();
    let (shown, puts_on) =
        (last(&mounts), at("hierarchy", &|line| mounts(line) && line.contains("\"memory\"")));
    assert!(shown > last(&enters) && caller(shown) != caller(clone), "{lines:#?}");
    assert!(caller(puts_on) == caller(clone) || puts_on > last(&enters), "{lines:#?}");
    // What belongs to none of the namespaces is made by the caller. A devpts does: whoever makes one among the host's mounts makes one that
    // can take the terminals that are kept for the host.
    let makers = |kind: &str| {
        let opened = format!("fsopen(\"{kind}\"");
        let lines = (0..lines.len()).filter(|line| lines[*line].contains(&opened));
        lines.map(|line| caller(line) == caller(clone)).collect::<Vec<_>>()
    };
    assert_eq!((makers("devpts"), makers("mqueue")), (vec![false], vec![false]), "{lines:#?}");
    // /dev, /dev/shm, what lies below hierarchies; what paths are covered with.
    assert_eq!(makers("tmpfs").iter().filter(|is_caller| **is_caller).count(), 3, "{lines:#?}");
}

#[test]
fn lo_is_brought_up_by_who_comes_to_it_first() {
    if is_v2() {
        return;
    }
    let bundle = Bundle::new("meanwhile-who").args(&["true"]);
    let own = format!("tinyrun-{}", bundle.id);
    // The last directory of its cgroup, by the caller's calls alone.
    bundle.run().says("");
    let made = bundle.lines_of_run("mkdirat", &[]);
    let last_cgroup = made.iter().rposition(|line| line.contains(&own) && line.contains("/sys/fs/cgroup"));
    let last_cgroup = last_cgroup.unwrap_or_else(|| panic!("no cgroup: {made:#?}")) + 1;
    let who = |late: &str, at: usize| {
        // A call of either side; longer than the other one takes.
        let inject = format!("inject={late}:delay_exit=2000000:when={at}");
        let set = format!("clone3,ioctl,execve,{late}");
        let lines = bundle.lines_of_run(&set, &["-f", "-e", &inject]);
        let pid = |line: &String| line.split(' ').next().map(str::to_owned);
        let caller = lines.iter().find(|line| line.contains("clone3(")).and_then(pid);
        let of_lo: Vec<_> = (0..lines.len()).filter(|at| lines[*at].contains("SIOCSIFFLAGS")).collect();
        let executed = lines.iter().rposition(|line| line.contains("execve(\"/bin/true\"")).unwrap();
        assert!(of_lo.last().is_some_and(|up| *up < executed), "{lines:#?}");
        let begun = of_lo.into_iter().filter(|at| !lines[*at].contains("resumed"));
        begun.map(|at| pid(&lines[at]) == caller).collect::<Vec<_>>()
    };
    // The first process, and its caller finds that it is up; the caller, for whom it need not wait.
    assert_eq!(who("mkdirat", last_cgroup), [false, true]);
    assert_eq!(who("unshare", 1), [true]);
}

#[test]
fn nothing_is_made_in_the_root_when_the_host_does_not_have_a_source() {
    let mut bundle = Bundle::new("meanwhile-missing").args(&["true"]);
    let dir = bundle.dir.to_str().unwrap().to_owned();
    let bind =
        |place: &str, source: &str| json!({ "destination": place, "source": source, "options": ["bind"] });
    // Before what is seen of the cgroup, which is waited for.
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.splice(..0, [bind("/made", &dir), bind("/x", "/nonexistent")]);
    bundle.write();
    // However long that takes to be seen: open_tree of the program itself, of the root, of what is there, of what is not.
    let delay = "inject=open_tree:delay_enter=200000:when=4";
    let tracer = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=open_tree", "-e", delay];
    bundle.tinyrun_in(&tracer, &["run", "-b", &dir, &bundle.id]).fails(1, "/nonexistent does not exist");
    assert!(!bundle.rootfs("made").exists());
    bundle.assert_clean();
}

/// What belongs to a user namespace waits for its ids, also where others are made meanwhile.
#[test]
fn no_namespace_is_made_twice() {
    let bundle = Bundle::new("meanwhile-twice").with_users().args(&["true"]);
    let lines = bundle.lines_of_run("clone3,unshare", &["-f"]);
    for kind in
        ["CLONE_NEWIPC", "CLONE_NEWNET", "CLONE_NEWNS", "CLONE_NEWUTS", "CLONE_NEWPID", "CLONE_NEWUSER"]
    {
        assert_eq!(lines.iter().filter(|line| line.contains(kind)).count(), 1, "{kind} {lines:#?}");
    }
}

/// Before Linux 6.15 the caller is refused.
#[test]
fn hierarchies_are_put_in_their_place_inside_where_the_caller_cannot() {
    let file = if is_v2() { "pids.max" } else { "pids/pids.max" };
    let mut bundle = Bundle::new("meanwhile-inside").script(&format!("head -n 1 /sys/fs/cgroup/{file}"));
    bundle.spec["linux"]["resources"] = json!({ "pids": { "limit": 78 } });
    bundle.write();
    let refuse = ["-e", "trace=move_mount", "-e", "inject=move_mount:error=EINVAL:when=1"];
    let tracer = [&["strace", "-qq", "-o", "/dev/null"][..], &refuse].concat();
    bundle.tinyrun_in(&tracer, &["run", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("78");
    bundle.assert_clean();
}

/// The kernel sets it anew when `lo` comes up.
#[test]
fn a_sysctl_of_lo_is_what_the_configuration_says() {
    let mut bundle = Bundle::new("meanwhile-lo").script("cat /proc/sys/net/ipv6/conf/lo/mtu");
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv6.conf.lo.mtu": "1400" });
    // However long its caller takes until then.
    let lines = bundle.lines_of_run("ioctl", &["-f", "-e", "inject=ioctl:delay_enter=50000"]);
    assert!(lines.iter().any(|line| line.contains("SIOCSIFFLAGS")), "{lines:#?}");
    bundle.run().says("1400");
}

#[test]
fn a_container_can_be_shown_a_directory_of_its_own_cgroup() {
    let mut bundle = Bundle::new("meanwhile-own").script("head -n 1 /own/pids.max");
    let name = format!("tinyrun-{}", bundle.id);
    let hierarchy = if is_v2() { "" } else { "pids/" };
    bundle.spec["linux"]["cgroupsPath"] = json!(format!("/{name}"));
    bundle.spec["linux"]["resources"] = json!({ "pids": { "limit": 77 } });
    let bundle = bundle.mount("/own", "bind", &format!("/sys/fs/cgroup/{hierarchy}{name}"), &["bind", "ro"]);
    bundle.run().says("77");
}

/// The cgroup is not seen yet when the working directory is looked for.
#[test]
fn a_link_to_its_cgroup_can_be_the_working_directory() {
    let place = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let up = format!("..{place}");
    for (options, target, cwd) in [
        (&["nosuid", "ro"][..], place, "/srv/place".to_owned()),
        (&["nosuid"], &up, "/srv/place".to_owned()),
        (&["nosuid", "ro"], place, format!("/srv/{up}")),
    ] {
        let mut bundle = Bundle::new("meanwhile-cwd").script("pwd -P; ls /srv");
        fs::create_dir(bundle.rootfs("srv")).unwrap();
        symlink(target, bundle.rootfs("srv/place")).unwrap();
        bundle.spec["process"]["cwd"] = json!(cwd);
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.iter_mut().find(|mount| mount["type"] == "sysfs").unwrap()["options"] = json!(options);
        bundle.run().says(&format!("{place}\nplace"));
    }
}

impl Bundle {
    /// Has `run` be killed as it is about to make the first directory of a cgroup of this name. Not its child, which makes directories too.
    fn be_killed_before_its_cgroup(&self, cgroup: &str) {
        let is_first = |line: &String| line.contains("/sys/fs/cgroup") && line.contains(cgroup);
        // Where records are is made by the first one.
        self.run().says("");
        let lines = self.lines_of_run("mkdirat", &[]);
        let at = lines.iter().position(is_first).unwrap_or_else(|| panic!("no cgroup: {lines:#?}"));
        let kill = format!("inject=mkdirat:signal=KILL:when={}", at + 1);
        let lines = self.lines_of_run("mkdirat", &["-e", &kill]);
        assert!(lines.get(at).is_some_and(is_first), "{lines:#?}");
    }
}

/// Its first process is written down before its cgroup is made, which another container may have.
#[test]
fn what_was_killed_before_its_cgroup_does_not_own_anothers() {
    let mut bundle = Bundle::new("meanwhile-owner").args(&["true"]);
    let (name, owner) = (format!("/tinyrun-{}", bundle.id), format!("{}-2", bundle.id));
    bundle.spec["linux"]["cgroupsPath"] = json!(name);
    bundle.be_killed_before_its_cgroup(&name[1..]);
    if !is_v2() {
        // Its first process is in its record.
        wait_for("the end of the first process", || bundle.state()["status"] == "stopped");
    }
    let bundle = bundle.args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &owner]).says("");
    for of_the_other in [&["kill", "--all", &bundle.id, "KILL"][..], &["delete", "--force", &bundle.id]] {
        bundle.tinyrun(of_the_other).says("");
        let state: serde_json::Value = serde_json::from_str(&bundle.tinyrun(&["state", &owner]).out).unwrap();
        assert_eq!(state["status"], "running", "{of_the_other:?}");
    }
    bundle.tinyrun(&["delete", "--force", &owner]).says("");
    bundle.assert_clean();
}

/// Its configuration is kept last: what there is of it is told all the same.
#[test]
fn a_container_whose_maker_was_killed_early_is_told_of() {
    let bundle = Bundle::new("meanwhile-killed").args(&["true"]);
    bundle.be_killed_before_its_cgroup(&bundle.id);
    let listed = bundle.tinyrun(&["list", "-q"]);
    listed.says(&bundle.id);
    let listed = bundle.tinyrun(&["list", "-f", "json"]);
    assert!(listed.code == 0 && listed.out.contains(&bundle.id), "{listed:?}");
    bundle.state();
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    wait_for("the end of the first process", || bundle.tinyrun(&["list", "-q"]).out.is_empty());
    bundle.assert_clean();
}
