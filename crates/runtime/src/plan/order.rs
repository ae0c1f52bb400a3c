//! The order of steps, where it is free: what needs the cgroup comes late, because that may still be made meanwhile.

use std::path::Path;

use super::{
    Step,
    mounts::{Mount, What},
};

/// Where a container sees its cgroup.
const CGROUP: &str = "/sys/fs/cgroup";

/// Puts what is seen of the cgroup off until all else is done with the root, the old one is left too, where nobody can tell: where every path that is
/// covered or written to is the kernel's own, below a procfs and a sysfs of the container's. There the image has no say in where a path
/// leads, and none leads to the other.
pub(super) fn put_off_cgroup(steps: &mut [Step]) {
    let Some(view) = steps.iter().position(|step| step.shows_cgroup().is_some()) else { return };
    let (before, behind) = steps.split_at_mut(view);
    let [Step::Mount(mount), others @ ..] = &*behind else { return };
    let is_usual = mount.destination == Path::new(CGROUP) && is_kernels(Path::new(CGROUP), before);
    if is_usual && others.iter().all(|step| is_free(step, before)) {
        behind.rotate_left(1);
    }
}

/// Whether it may come before the view.
fn is_free(step: &Step, before: &[Step]) -> bool {
    let cgroup = Path::new(CGROUP);
    match step {
        Step::ReadOnly(path) | Step::Mask(path) => {
            is_kernels(path, before) && !path.starts_with(cgroup) && !cgroup.starts_with(path)
        }
        // Where it only leads there, by a link of the image, it cannot be made, and is entered later.
        Step::WorkingDirectory(path) => !path.starts_with("/sys"),
        Step::Mount(Mount { what: What::Remount { .. }, destination, .. }) => {
            destination == Path::new("/dev")
        }
        Step::Sysctl(_) | Step::Terminal | Step::ReadOnlyRoot | Step::Pivot => true,
        // Hooks see it, other mounts may come to lie on it, and a change of the root without leaving the old one takes mounts away.
        Step::Hooks
        | Step::Mount(_)
        | Step::Chroot
        | Step::RootPropagation(_)
        | Step::Hostname(_)
        | Step::Domainname(_)
        | Step::Network
        | Step::DetachFromHost
        | Step::Root { .. } => false,
    }
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

    /// Whether the view is put off in a container of these steps. Nothing else changes.
    fn is_put_off(steps: &[Step]) -> bool {
        let mut after = steps.to_vec();
        put_off_cgroup(&mut after);
        let others = |steps: &[Step]| {
            steps.iter().filter(|step| step.shows_cgroup().is_none()).cloned().collect::<Vec<_>>()
        };
        assert_eq!(others(&after), others(steps));
        let place = |steps: &[Step]| steps.iter().position(|step| step.shows_cgroup().is_some());
        let (before, now) = (place(steps), place(&after));
        assert!(now == before || now == Some(steps.len() - 1), "{after:?}");
        now != before
    }

    #[test]
    fn the_view_comes_last_where_nobody_can_tell() {
        let usual = |others: &[Step]| {
            let mut steps = vec![fs("proc", "/proc"), fs("sysfs", "/sys"), view(CGROUP)];
            steps.push(Step::WorkingDirectory("/srv".into()));
            steps.extend_from_slice(others);
            steps.extend([Step::ReadOnlyRoot, Step::Pivot]);
            is_put_off(&steps)
        };
        assert!(usual(&[]));
        assert!(usual(&[mask("/proc/kcore"), Step::ReadOnly("/proc/sys".into()), mask("/sys/firmware")]));
        let dev = mount("/dev", What::Remount { changes: Vec::new(), data: None });
        assert!(usual(&[Step::Terminal, dev, mask("/proc/kcore")]));
        // Somebody could tell.
        for other in ["/sys/fs/cgroup/memory", "/sys/fs/cgroup", "/sys/fs", "/sys", "/etc/shadow", "/procs"] {
            assert!(!usual(&[mask("/proc/kcore"), mask(other)]), "{other}");
        }
        assert!(!usual(&[Step::WorkingDirectory("/sys/fs/cgroup/memory".into())]));
        assert!(!usual(&[mount("/tmp", What::Remount { changes: Vec::new(), data: None })]));
        for other in [Step::Hooks, fs("tmpfs", "/tmp"), Step::Chroot, view("/cgroup")] {
            assert!(!usual(&[other.clone(), mask("/proc/kcore")]), "{other:?}");
        }
    }

    #[test]
    fn the_view_stays_where_somebody_else_says_what_is_below_it() {
        let with = |proc: Step, sys: Step, place: &str| {
            is_put_off(&[proc, sys, view(place), mask("/proc/kcore"), mask("/sys/firmware"), Step::Pivot])
        };
        let (proc, sys) = (fs("proc", "/proc"), fs("sysfs", "/sys"));
        assert!(with(proc.clone(), sys.clone(), CGROUP));
        assert!(!with(proc.clone(), sys.clone(), "/cgroup"));
        assert!(!with(proc.clone(), mount("/sys", What::Source(1)), CGROUP));
        assert!(!with(fs("tmpfs", "/proc"), sys.clone(), CGROUP));
        assert!(!with(sys, mount("/sys/fs", What::Source(1)), CGROUP));
        assert!(!with(proc, fs("sysfs", "/kernel"), CGROUP));
    }
}
