//! Limits hold, as the kernel counts, before the program's first instruction.

use std::{fs, path::PathBuf, time::Instant};

use tinyd_e2e::{Sandbox, busybox, skip, wait_for};

/// The directory of a process's cgroup that has this controller.
fn cgroup(pid: u32, controller: &str) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut unified = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (controllers, path) = (fields.nth(1).unwrap(), fields.next().unwrap().trim_start_matches('/'));
        if controllers.split(',').any(|name| name == controller) {
            return PathBuf::from("/sys/fs/cgroup").join(controller).join(path);
        }
        if controllers.is_empty() {
            unified = Some(PathBuf::from("/sys/fs/cgroup").join(path));
        }
    }
    unified.unwrap_or_else(|| panic!("no {controller} in {groups}"))
}

fn cpu_used_us(pid: u32) -> u64 {
    if let Ok(text) = fs::read_to_string(cgroup(pid, "cpuacct").join("cpuacct.usage")) {
        return text.trim().parse::<u64>().unwrap() / 1000;
    }
    let text = fs::read_to_string(cgroup(pid, "cpu").join("cpu.stat")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap()
}

#[test]
fn a_cpu_burner_is_held_to_its_quota() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "burner", "--cpu", "20000"], &["/bin/probe", "burn"]);
    let pid = sandbox.pid_of(&["/bin/probe", "burn"]);
    wait_for("the burner", 5, || sandbox.ok(&["logs", "burner"]).contains("ready").then_some(()));
    // Never more; and as much as that, unless others on this machine had the CPU: then another three seconds tell.
    let held = (0..4).any(|_| {
        let share = share_of_three_seconds(pid);
        assert!(share <= 0.21, "{share:.4} of a CPU instead of 0.2");
        share >= 0.19
    });
    assert!(held, "less than 0.19 of a CPU instead of 0.2");
}

/// The share of a CPU that a process's cgroup used in three seconds, from the beginning of a period of its quota.
fn share_of_three_seconds(pid: u32) -> f64 {
    // The quota is handed out every 100 ms: when nothing has been used for a while, a period is about to begin.
    let mut before = cpu_used_us(pid);
    wait_for("the end of a period's share", 5, || {
        let now = cpu_used_us(pid);
        (now == std::mem::replace(&mut before, now)).then_some(())
    });
    let (before, begun) = (cpu_used_us(pid), Instant::now());
    std::thread::sleep(std::time::Duration::from_secs(3));
    (cpu_used_us(pid) - before) as f64 / begun.elapsed().as_micros() as f64
}

#[test]
fn limits_are_in_force_at_the_first_instruction() {
    let sandbox = Sandbox::new();
    let image = busybox();
    let options = ["--cpus", "0.5", "--mem", "64m", "--pids-limit", "77", "--cpuset-cpus", "0"];
    sandbox.run(&[&["--name", "c"][..], &options].concat(), &["sleep", "76543"]);
    let pid = sandbox.pid_of(&["sleep", "76543"]);
    let read = |controller: &str, names: [&str; 2]| {
        let dir = cgroup(pid, controller);
        let text = names.iter().find_map(|name| fs::read_to_string(dir.join(name)).ok());
        text.unwrap_or_else(|| panic!("{names:?} in {}", dir.display())).trim().to_owned()
    };
    assert!(["50000", "50000 100000"].contains(&read("cpu", ["cpu.cfs_quota_us", "cpu.max"]).as_str()));
    assert_eq!(read("memory", ["memory.limit_in_bytes", "memory.max"]), (64 << 20).to_string());
    assert_eq!(read("pids", ["pids.max", "pids.max"]), "77");
    assert_eq!(read("cpuset", ["cpuset.cpus", "cpuset.cpus"]), "0");
    let first = [
        "run",
        "--rm",
        "--attach",
        "--cpuset-cpus",
        "1",
        "-i",
        &image,
        "grep",
        "Cpus_allowed_list",
        "/proc/self/status",
    ];
    assert_eq!(sandbox.ok(&first), "Cpus_allowed_list:\t1");
}

#[test]
fn no_swap_beyond_the_memory() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--mem", "64m"], &["sleep", "65432"]);
    let dir = cgroup(sandbox.pid_of(&["sleep", "65432"]), "memory");
    let v1 = fs::read_to_string(dir.join("memory.memsw.limit_in_bytes"));
    let v2 = fs::read_to_string(dir.join("memory.swap.max"));
    match (v1, v2) {
        (Ok(text), _) => assert_eq!(text.trim(), (64 << 20).to_string()),
        (_, Ok(text)) => assert_eq!(text.trim(), "0"),
        (Err(_), Err(_)) => skip("no_swap_beyond_the_memory", "this kernel does not account swap"),
    }
}

#[test]
fn a_memory_hog_is_killed_and_told() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "hog", "--mem", "32m"], &["/bin/probe", "hog", "209715200"]);
    assert_eq!(sandbox.ok(&["wait", "hog"]), "137");
    let table = sandbox.ok(&["ps", "-a"]);
    assert!(table.contains("OOM"), "{table}");
    let details = sandbox.inspect("hog").to_string();
    assert!(details.to_lowercase().contains("\"oomkilled\":true"), "{details}");
    // A neighbour within its limit is left alone.
    assert_eq!(sandbox.out(&["--mem", "64m"], &["/bin/probe", "hog", "20971520"]), "has 20 MiB");
}

#[test]
fn an_oom_of_a_child_is_told_while_the_container_runs() {
    let sandbox = Sandbox::new();
    let script = "/bin/probe hog 209715200; echo survived; sleep 1000";
    sandbox.run(&["--name", "c", "--mem", "32m"], &["sh", "-c", script]);
    wait_for("the child's death", 10, || sandbox.ok(&["logs", "c"]).contains("survived").then_some(()));
    // Nobody asks the container's supervisor: it tells by itself.
    wait_for("word of it", 1, || sandbox.ok(&["ps"]).contains("RUNNING (OOM)").then_some(()));
    assert!(sandbox.inspect("c").to_string().to_lowercase().contains("\"oomkilled\":true"));
}

#[test]
fn processes_are_counted() {
    let sandbox = Sandbox::new();
    let said = sandbox.out(&["--pids-limit", "10"], &["/bin/probe", "fork", "50"]);
    let made: u32 = said.split(' ').next().unwrap().parse().unwrap();
    assert!((5..10).contains(&made) && said.ends_with("EAGAIN"), "{said}");
}

#[test]
fn there_is_a_limit_of_processes_by_default() {
    let sandbox = Sandbox::new();
    sandbox.run(&[], &["sleep", "54321"]);
    let max =
        fs::read_to_string(cgroup(sandbox.pid_of(&["sleep", "54321"]), "pids").join("pids.max")).unwrap();
    assert!(max.trim().parse::<u64>().is_ok(), "{max}");
}

#[test]
fn executed_processes_are_in_the_containers_cgroup() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "43210"]);
    let mut client = sandbox.spawn(&["exec", "c", "sh", "-c", "echo here; exec sleep 43211"]);
    assert_eq!(client.next_line(), "here");
    let groups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(sandbox.pid_of(&["sleep", "43210"])), groups(sandbox.pid_of(&["sleep", "43211"])));
    sandbox.ok(&["kill", "c"]);
    assert_eq!(client.wait(), 137, "the container's end is the end of what was executed in it");
}

#[test]
fn the_shim_is_not_charged_to_the_container() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--name", "c"], &["sleep", "32109"]);
    let dir = cgroup(sandbox.pid_of(&["sleep", "32109"]), "memory");
    let members = fs::read_to_string(dir.join("cgroup.procs")).unwrap();
    assert_eq!(members.lines().count(), 1, "{members}");
}
