//! The engines of the bench, each with its own place on the same disk, and what they are told.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tinyd_e2e::{Host, Options, Sandbox, bin_dir};

use crate::Failure;

/// What an engine is told, as shell lines. `@NAME@` is the image's name in the registry, `@FILE@` an archive, `@IMAGE@` what the archive
/// calls its image.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    pub(crate) pull: String,
    pub(crate) load: String,
    /// To the file `@OUT@`.
    pub(crate) save: String,
    /// Takes `@WHAT@` away.
    pub(crate) remove: String,
}

/// All engines and the registry.
pub(crate) struct World<'a> {
    pub(crate) engines: Vec<Engine>,
    pub(crate) registry: String,
    /// Where all of them run.
    host: &'a Host,
    work: PathBuf,
    daemons: Vec<Child>,
}

/// A host with the daemon that is measured.
pub(crate) fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::without_daemon(Options::default());
    // docker and podman refuse v1 hierarchies with an empty v2 beside them.
    let view = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified";
    let _ = sandbox.host().sh(view).expect_ok();
    sandbox.start_daemon();
    sandbox
}

impl World<'_> {
    /// Starts the registry and every engine that the machine has.
    ///
    /// # Errors
    /// What cannot be started.
    pub(crate) fn new(sandbox: &Sandbox) -> Result<World<'_>, Failure> {
        let work = sandbox.dir().join("bench");
        fs::create_dir_all(&work)?;
        let mut world = World {
            engines: Vec::new(),
            registry: String::new(),
            host: sandbox.host(),
            work,
            daemons: Vec::new(),
        };
        world.start_registry()?;
        world.add_tinyd(sandbox);
        world.add_podman()?;
        world.add_docker()?;
        world.add_skopeo();
        Ok(world)
    }

    /// Where files of the bench are.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// Runs a line in the engines' host.
    ///
    /// # Errors
    /// What it said when it failed.
    pub(crate) fn run(&self, line: &str) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let out = self.host.command(&["sh", "-c", line]).stdin(Stdio::null()).output()?;
        let took = begun.elapsed();
        if out.status.success() {
            return Ok(took);
        }
        Err(format!("{line}: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim()).into())
    }

    fn dir(&self, name: &str) -> Result<String, Failure> {
        let dir = self.work.join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir.display().to_string())
    }

    fn start(
        &mut self,
        name: &str,
        argv: &[&str],
        ready: impl Fn(&World<'_>) -> bool,
    ) -> Result<(), Failure> {
        let log = fs::File::create(self.work.join(format!("{name}.log")))?;
        let mut command = self.host.command(argv);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemons.push(command.spawn()?);
        let begun = Instant::now();
        while !ready(self) {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("{name} does not come: {}/{name}.log", self.work.display()).into());
            }
            // Nobody tells when a daemon of somebody else's has come.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Without TLS, which costs all of them the same; podman, skopeo and tinyd read the same words about it.
    fn start_registry(&mut self) -> Result<(), Failure> {
        let port = self.host.in_network(|| {
            TcpListener::bind("127.0.0.1:0")
                .and_then(|socket| socket.local_addr())
                .map(|address| address.port())
        })?;
        self.registry = format!("127.0.0.1:{port}");
        let (storage, address) = (self.dir("registry")?, self.registry.clone());
        let config = self.work.join("registry.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {storage:?}\n\
                 http:\n  addr: {address}\n  secret: x\n"
            ),
        )?;
        let containers = self.dir("containers")?;
        let insecure = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
        fs::write(Path::new(&containers).join("registries.conf"), insecure)?;
        fs::write(
            Path::new(&containers).join("policy.json"),
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )?;
        self.run(&format!("mkdir -p /etc/containers && mount --bind {containers} /etc/containers"))?;
        let config = config.display().to_string();
        self.start("docker-registry", &["docker-registry", "serve", &config], |world| {
            world.host.in_network(|| TcpStream::connect(&address).is_ok())
        })
    }

    fn add_tinyd(&mut self, sandbox: &Sandbox) {
        let tinyd =
            format!("{} --host unix://{}", bin_dir().join("tinyd").display(), sandbox.socket().display());
        self.engines.push(Engine {
            name: "tinyd",
            pull: format!("{tinyd} pull -q @NAME@"),
            load: format!("{tinyd} load -q -i @FILE@"),
            save: format!("{tinyd} save -o @OUT@ @IMAGE@"),
            remove: format!("{tinyd} rmi @WHAT@"),
        });
    }

    fn add_podman(&mut self) -> Result<(), Failure> {
        if !self.has("podman") {
            return Ok(());
        }
        let dir = self.dir("podman")?;
        let podman = format!(
            "TMPDIR={dir} podman --log-level=error --root {dir}/root --runroot {dir}/run --storage-driver overlay --cgroup-manager cgroupfs"
        );
        self.engines.push(Engine {
            name: "podman",
            pull: format!("{podman} pull -q @NAME@"),
            load: format!("{podman} load -q -i @FILE@"),
            save: format!("{podman} save -q -o @OUT@ @IMAGE@"),
            remove: format!("{podman} rmi @WHAT@"),
        });
        Ok(())
    }

    fn add_docker(&mut self) -> Result<(), Failure> {
        if !self.has("dockerd") {
            return Ok(());
        }
        let dir = self.dir("docker")?;
        let line = format!(
            "for own in /run/containerd /run/docker; do mkdir -p $own && mount -t tmpfs bench $own; done; \
             exec dockerd --data-root {dir}/root --exec-root {dir}/run -H unix://{dir}/sock -p {dir}/pid --iptables=false --ip6tables=false --bridge=none"
        );
        let socket = format!("{dir}/sock");
        self.start("dockerd", &["sh", "-c", &line], |world| {
            world.run(&format!("DOCKER_HOST=unix://{socket} docker version")).is_ok()
        })?;
        let docker = format!("DOCKER_HOST=unix://{dir}/sock docker");
        self.engines.push(Engine {
            name: "docker",
            pull: format!("{docker} pull -q @NAME@"),
            load: format!("{docker} load -q -i @FILE@"),
            save: format!("{docker} save -o @OUT@ @IMAGE@"),
            remove: format!("{docker} rmi @WHAT@"),
        });
        Ok(())
    }

    fn add_skopeo(&mut self) {
        if !self.has("skopeo") || !self.has("umoci") {
            return;
        }
        let dir = self.work.join("skopeo").display().to_string();
        let unpack = format!("umoci unpack --image {dir}/oci:1 {dir}/bundle");
        self.engines.push(Engine {
            name: "skopeo+umoci",
            pull: format!("mkdir -p {dir} && skopeo copy -q docker://@NAME@ oci:{dir}/oci:1 && {unpack}"),
            load: format!(
                "mkdir -p {dir} && skopeo copy -q docker-archive:@FILE@ oci:{dir}/oci:1 && {unpack}"
            ),
            save: format!("skopeo copy -q oci:{dir}/oci:1 docker-archive:@OUT@:@IMAGE@"),
            remove: format!("rm -rf {dir} # @WHAT@"),
        });
    }

    fn has(&self, program: &str) -> bool {
        self.run(&format!("command -v {program} >/dev/null")).is_ok()
    }

    /// Ends what was started, and takes the mounts away.
    pub(crate) fn end(mut self) {
        while let Some(mut daemon) = self.daemons.pop() {
            let pid = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
            let _ = daemon.wait();
        }
        let podman = self.work.join("podman/root/overlay").display().to_string();
        let _ = self.run(&format!(
            "for own in {podman} /run/containerd /run/docker /etc/containers; do umount -R $own 2>/dev/null; done; true"
        ));
    }
}

/// Whether a program is installed, for whoever has no world yet.
pub(crate) fn installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program} >/dev/null")]).status();
    found.is_ok_and(|status| status.success())
}
