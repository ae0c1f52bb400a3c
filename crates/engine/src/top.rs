//! `top`: the processes of a container, as the host's `/proc` shows them.

use std::{os::unix::fs::MetadataExt, sync::Arc};

use tinyd_core::Result;

use crate::{Inner, api::Process, blocking, handle::Handle};

/// The processes of a container that is alive, by host pid.
pub(crate) async fn top(inner: &Arc<Inner>, who: &str) -> Result<Vec<Process>> {
    let handle = inner.registry.find(who)?;
    handle.require_alive("look into")?;
    processes(inner, &handle).await
}

/// A process that no signal ends before the kernel wakes it. One that the kernel takes apart already sleeps that way too, now and then.
pub(crate) async fn uninterruptible(inner: &Arc<Inner>, handle: &Handle) -> Option<Process> {
    let stuck = |process: &Process| process.state == "D" && !process.is_ending;
    processes(inner, handle).await.ok()?.into_iter().find(stuck)
}

async fn processes(inner: &Arc<Inner>, handle: &Handle) -> Result<Vec<Process>> {
    let mut pids = inner.shim(&handle.record.id)?.processes().await?;
    pids.sort_unstable();
    let boot = boot_unix_nanos();
    // One that has ended meanwhile is not told.
    blocking(move || Ok(pids.into_iter().filter_map(|pid| process(pid, boot)).collect())).await
}

fn process(pid: i32, boot_unix_nanos: i64) -> Option<Process> {
    let dir = format!("/proc/{pid}");
    let uid = std::fs::metadata(&dir).ok()?.uid();
    let stat = std::fs::read_to_string(format!("{dir}/stat")).ok()?;
    let cmdline = std::fs::read(format!("{dir}/cmdline")).unwrap_or_default();
    parse(pid, uid, &stat, &cmdline, boot_unix_nanos)
}

/// The kernel's mark (`PF_EXITING`) of a process that is on its way out.
const EXITING: u64 = 4;

/// proc_pid_stat(5): the second field is the name in brackets and may hold anything; the rest counts from the third.
fn parse(pid: i32, uid: u32, stat: &str, cmdline: &[u8], boot_unix_nanos: i64) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| fields.get(index - 3)?.parse::<u64>().ok();
    let ticks = ticks_per_second();
    let arguments = cmdline.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
    let mut command: Vec<String> = arguments.collect();
    command.pop();
    if command.is_empty() {
        command.push(format!("[{name}]"));
    }
    let since_boot = i64::try_from(number(22)?.checked_mul(1_000_000_000)? / ticks).ok()?;
    Some(Process {
        pid,
        ppid: fields.get(1)?.parse().ok()?,
        uid,
        cpu_ms: (number(14)? + number(15)?) * 1000 / ticks,
        rss_bytes: number(24)? * rustix::param::page_size() as u64,
        started_unix_nanos: boot_unix_nanos + since_boot,
        state: (*fields.first()?).to_owned(),
        is_ending: number(9)? & EXITING != 0,
        command,
    })
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second().max(1)
}

fn boot_unix_nanos() -> i64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse::<i64>().ok());
    seconds.unwrap_or(0) * 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_confuses_nobody() {
        let stat = "7 (a) b (c) D 1 7 7 0 -1 4194560 1 0 0 0 50 25 0 0 20 0 1 0 200 1000 3 0";
        let process = parse(7, 33, stat, b"", 5).unwrap();
        assert_eq!((process.state.as_str(), process.ppid, process.cpu_ms), ("D", 1, 750));
        assert_eq!((process.rss_bytes, process.started_unix_nanos), (3 * 4096, 2_000_000_005));
        assert_eq!((process.command.as_slice(), process.is_ending), (&["[a) b (c]".to_owned()][..], false));
        assert!(parse(7, 33, &stat.replace("4194560", "4194564"), b"", 5).unwrap().is_ending);
        assert_eq!(parse(7, 0, stat, b"sh\0-c\0", 0).unwrap().command, ["sh", "-c"]);
        assert!(parse(7, 0, "garbage", b"", 0).is_none());
    }
}
