//! Other people's engines that have systemd make their cgroups, as is usual on cgroup v2, with `tinyrun` as their runtime and with crun beside
//! it. For a machine whose first process is systemd: `./test vm` has one.

#[path = "suite/peers.rs"]
mod peers;

use peers::{assert_same, containerd, podman_with, tinyrun};
use tinyd_e2e::{busybox, wait_for};

#[test]
fn podman_and_systemd_run_on_it_as_on_crun() {
    const LINES: [&str; 8] = [
        "podman run -d --network none --name c1 --cpus 0.5 -m 64m --pids-limit 20 bb sleep 1000 >@DIR@/id",
        "podman exec c1 sh -c 'cd /sys/fs/cgroup; cat memory.max cpu.max pids.max; exit 3'",
        "systemctl show -p ActiveState,Slice,Delegate libpod-$(cat @DIR@/id).scope",
        "podman pause c1 >@DIR@/said && podman ps -a --format '{{.Names}} {{.State}}' && podman unpause c1",
        "podman stats --no-stream --format '{{.Name}} {{.PIDs}}' c1",
        "podman update --cpus 0.3 -m 80m c1 >@DIR@/said; podman exec c1 cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max",
        "podman stop -t 0 c1; systemctl show -p LoadState libpod-$(cat @DIR@/id).scope; podman rm c1 >@DIR@/said",
        "podman pod create --network none --name po --infra-image bb --infra-command '/bin/sleep 1000' >@DIR@/said && \
         podman run -d --pod po --name pc bb sleep 1000 >@DIR@/said && podman exec pc cat /proc/self/cgroup && podman pod rm -f -t 0 po >@DIR@/said",
    ];
    let start = |runtime: &str| podman_with(runtime, "systemd");
    let (ours, theirs) = (start(&tinyrun()), start("/usr/bin/crun"));
    assert_same(&ours, &theirs, &LINES);
    for peer in [ours, theirs] {
        peer.end("podman rm -af -t 0; podman pod rm -af");
    }
}

#[test]
fn docker_and_containerd_run_on_it_with_systemd() {
    let mut peer = containerd();
    peer.file("daemon.json", r#"{"runtimes":{"tinyrun":{"path":"@TINYRUN@"}},"default-runtime":"tinyrun"}"#);
    peer.start(
        "dockerd --config-file @DIR@/daemon.json --containerd @DIR@/c.sock --data-root @DIR@/droot --exec-root @DIR@/drun \
         -H unix://@DIR@/d.sock -p @DIR@/pid --iptables=false --ip6tables=false >@DIR@/dockerd.log 2>&1",
    );
    wait_for("dockerd", 60, || peer.sh("docker version >/dev/null 2>&1").ok().then_some(()));
    let _ = peer.sh(&format!("tar -C {} -c . | docker import - bb", busybox())).expect_ok();
    let says = |line: &str| peer.sh(line).expect_ok().stdout;
    assert_eq!(says("docker info --format '{{.CgroupDriver}} {{.CgroupVersion}}'"), "systemd 2\n");
    let _ = peer
        .sh("docker run -d --network none --name c1 -m 64m --cpus .5 --pids-limit 20 bb sleep 1000 >@DIR@/id")
        .expect_ok();
    let limits = "docker exec c1 sh -c 'cd /sys/fs/cgroup; cat memory.max cpu.max pids.max'";
    assert_eq!(says(limits), "67108864\n50000 100000\n20\n");
    let unit =
        "systemctl show --value -p ActiveState,Slice,MemoryMax docker-$(cat @DIR@/id).scope | LC_ALL=C sort";
    assert_eq!(says(unit), "67108864\nactive\nsystem.slice\n");
    let _ = peer.sh("docker update -m 80m --memory-swap 80m c1").expect_ok();
    assert_eq!(says(limits), "83886080\n50000 100000\n20\n");
    let _ = peer.sh("docker rm -f c1").expect_ok();
    assert_eq!(says("systemctl show --value -p LoadState docker-$(cat @DIR@/id).scope"), "not-found\n");
    // containerd's own client.
    let _ = peer.sh(&format!("cp -a {} @DIR@/root", busybox())).expect_ok();
    let run = format!(
        "ctr run -d --runc-binary {} --runc-systemd-cgroup --cgroup te.slice:te:w --memory-limit 67108864 --rootfs @DIR@/root w \
         /bin/sleep 1000 && systemctl show --value -p MemoryMax te-w.scope",
        tinyrun()
    );
    assert_eq!(says(&run), "67108864\n");
    let _ = peer.sh("ctr t rm -f w && ctr c rm w").expect_ok();
    assert_eq!(says("systemctl show --value -p LoadState te-w.scope"), "not-found\n");
    let _ = peer.sh("systemctl stop te.slice");
    peer.end("docker rm -f $(docker ps -aq)");
}
