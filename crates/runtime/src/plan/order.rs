//! The order of steps, where it is free: what needs the cgroup comes late, because that may still be made meanwhile.

use std::path::Path;

use super::{
    Step,
    mounts::{Mount, What},
};

/// Where a container sees its cgroup.
const CGROUP: &str = "/sys/fs/cgroup";

/// Puts what is seen of the cgroup off until sysctls are written and paths covered, where nobody can tell: where all of them are the kernel's
/// own, below a procfs and a sysfs of the container's. There the image has no say in where a path leads, and none leads to the other.
pub(super) fn put_off_cgroup(steps: &mut [Step]) {
    let Some(view) = steps.iter().position(|step| step.shows_cgroup().is_some()) else { return };
    let (before, behind) = steps.split_at(view);
    let stay = 1 + behind.iter().skip(1).take_while(|step| is_elsewhere(step)).count();
    let covers = behind.get(stay..).unwrap_or_default();
    let covers = covers.iter().take_while(|step| covers_or_writes(step));
    let is_usual = matches!(behind, [Step::Mount(mount), ..] if mount.destination == Path::new(CGROUP));
    if !is_usual
        || !is_kernels(Path::new(CGROUP), before)
        || !covers.clone().all(|step| is_free(step, before))
    {
        return;
    }
    let end = view + stay + covers.count();
    if let Some(both) = steps.get_mut(view..end) {
        both.rotate_left(stay);
    }
}

/// Whether it has nothing to do with /proc and /sys.
fn is_elsewhere(step: &Step) -> bool {
    if let Step::Mount(Mount { what: What::Remount { .. }, destination, .. }) = step {
        return destination == Path::new("/dev");
    }
    matches!(step, Step::WorkingDirectory(_) | Step::Terminal)
}

fn covers_or_writes(step: &Step) -> bool {
    matches!(step, Step::Sysctl(_) | Step::ReadOnly(_) | Step::Mask(_))
}

/// Whether it may come before the view.
fn is_free(step: &Step, before: &[Step]) -> bool {
    let (Step::ReadOnly(path) | Step::Mask(path)) = step else { return true };
    let cgroup = Path::new(CGROUP);
    is_kernels(path, before) && !path.starts_with(cgroup) && !cgroup.starts_with(path)
}

/// Whether a path is in a procfs or sysfs that was mounted for the container.
fn is_kernels(path: &Path, before: &[Step]) -> bool {
    let mounted = before.iter().rev().find_map(|step| {
        let Step::Mount(Mount { what, destination, .. }) = step else { return None };
        path.starts_with(destination).then_some((what, destination))
    });
    let Some((What::Fs { kind, .. }, destination)) = mounted else { return false };
    [("proc", Path::new("/proc")), ("sysfs", Path::new("/sys"))].contains(&(kind, destination))
}

#[cfg(test)]
mod tests {
    use tinyd_sys::mount::Attr;

    use super::*;

    fn mount(destination: &str, what: What) -> Step {
        Step::Mount(Mount { field: "mounts[0]".into(), destination: destination.into(), what })
    }

    fn fs(kind: &str, destination: &str) -> Step {
        let what = What::Fs {
            kind: kind.into(),
            source: None,
            data: Vec::new(),
            attr: Attr::default(),
            copy_up: false,
        };
        mount(destination, what)
    }

    fn view(destination: &str) -> Step {
        mount(destination, What::Cgroup { attributes: 0, unified: false })
    }

    fn mask(path: &str) -> Step {
        Step::Mask(path.into())
    }

    /// Where the view is after it was put off, in a container of these steps.
    fn put_off(mut steps: Vec<Step>) -> usize {
        let all = steps.clone();
        put_off_cgroup(&mut steps);
        let others =
            |steps: &[Step]| steps.iter().filter(|step| covers_or_writes(step)).cloned().collect::<Vec<_>>();
        assert_eq!(others(&steps), others(&all));
        assert_eq!(steps.len(), all.len());
        assert_eq!(steps.last(), all.last());
        steps.iter().position(|step| step.shows_cgroup().is_some()).unwrap()
    }

    #[test]
    fn the_view_comes_after_what_covers_the_kernels_own_paths() {
        let stays = Step::WorkingDirectory("/".into());
        let usual = |others: &[Step]| {
            let mut steps = vec![fs("proc", "/proc"), fs("sysfs", "/sys"), view(CGROUP), stays.clone()];
            steps.extend_from_slice(others);
            steps.push(Step::Pivot);
            put_off(steps)
        };
        assert_eq!(usual(&[]), 2);
        assert_eq!(
            usual(&[mask("/proc/kcore"), Step::ReadOnly("/proc/sys".into()), mask("/sys/firmware")]),
            5
        );
        let after_dev =
            [mount("/dev", What::Remount { changes: Vec::new(), data: None }), mask("/proc/kcore")];
        assert_eq!(usual(&after_dev), 3);
        // Somebody could tell.
        for other in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup", "/sys/fs", "/sys", "/etc/shadow", "/procs"] {
            assert_eq!(usual(&[mask("/proc/kcore"), mask(other)]), 2, "{other}");
        }
        assert_eq!(usual(&[Step::Hooks, mask("/proc/kcore")]), 2);
        assert_eq!(usual(&[fs("tmpfs", "/tmp"), mask("/proc/kcore")]), 2);
    }

    #[test]
    fn the_view_stays_where_somebody_else_says_what_is_below_it() {
        let with = |proc: Step, sys: Step, place: &str| {
            put_off(vec![proc, sys, view(place), mask("/proc/kcore"), mask("/sys/firmware"), Step::Pivot])
        };
        let (proc, sys) = (fs("proc", "/proc"), fs("sysfs", "/sys"));
        assert_eq!(with(proc.clone(), sys.clone(), CGROUP), 4);
        assert_eq!(with(proc.clone(), sys.clone(), "/cgroup"), 2);
        assert_eq!(with(proc.clone(), mount("/sys", What::Source(1)), CGROUP), 2);
        assert_eq!(with(fs("tmpfs", "/proc"), sys.clone(), CGROUP), 2);
        assert_eq!(with(sys, mount("/sys/fs", What::Source(1)), CGROUP), 2);
        assert_eq!(with(proc, fs("sysfs", "/kernel"), CGROUP), 2);
    }
}
