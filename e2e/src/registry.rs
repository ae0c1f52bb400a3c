//! Debian's docker-registry on a sandbox's host: with TLS of a private authority and with passwords, or plain; and a dam in front of it, which
//! lets so many bytes through and no more.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{Background, Output, Sandbox, wait_for};

/// Who may use a registry with passwords.
pub const USER: &str = "who";
/// And with what: nothing that is in a log by chance.
pub const PASSWORD: &str = "correct horse";
/// The same by bcrypt, the only way that the registry knows.
const HTPASSWD: &str = "who:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n";

/// A registry. It ends when this is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Background,
    dir: PathBuf,
    /// How it is called in names of images: `127.0.0.1:5000`.
    pub host: String,
    is_plain: bool,
}

impl Registry {
    /// With TLS and with passwords; one that was there before goes on with what it had. `sandbox` has to have an `/etc` of its own to trust it.
    ///
    /// # Panics
    /// When docker-registry is not installed or does not come up.
    #[must_use]
    pub fn start(sandbox: &Sandbox, port: u16) -> Registry {
        Registry::with(sandbox, port, false)
    }

    /// Without TLS and open to all.
    ///
    /// # Panics
    /// As [`Registry::start`].
    #[must_use]
    pub fn plain(sandbox: &Sandbox, port: u16) -> Registry {
        Registry::with(sandbox, port, true)
    }

    fn with(sandbox: &Sandbox, port: u16, is_plain: bool) -> Registry {
        let name = format!("registry-{port}");
        let dir = PathBuf::from(sandbox.make_dir(&name));
        let host = format!("127.0.0.1:{port}");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {:?}\nhttp:\n  addr: {host}\n  secret: x\n",
            dir.join("storage")
        );
        if !is_plain {
            let certs = dir.join("certs").display().to_string();
            if !dir.join("certs").exists() {
                sandbox.ok(&["cert", "ca", "--dir", &certs]);
                sandbox.ok(&["cert", "server", "--dir", &certs, "127.0.0.1", "localhost"]);
            }
            let passwords = sandbox.file(&format!("{name}/htpasswd"), HTPASSWD);
            config.push_str(&format!(
                "  tls:\n    certificate: {certs}/server-cert.pem\n    key: {certs}/server-key.pem\nauth:\n  htpasswd:\n    realm: x\n    path: {passwords}\n"
            ));
        }
        let config = sandbox.file(&format!("{name}/config.yml"), &config);
        let line = format!("exec docker-registry serve {config} >{0}/access 2>{0}/log", dir.display());
        let child = sandbox.host().spawn(&["sh", "-c", &line]);
        let registry = Registry { child, dir, host, is_plain };
        wait_for("docker-registry (is it installed?)", 20, || {
            sandbox.host().in_network(|| TcpStream::connect(&registry.host).ok())
        });
        registry
    }

    /// The certificate of its authority.
    ///
    /// # Panics
    /// When it is a plain one.
    #[must_use]
    pub fn authority(&self) -> String {
        fs::read_to_string(self.dir.join("certs/ca.pem")).expect("an authority")
    }

    /// Has the daemon trust it, under its own name and under those of `others`.
    pub fn trust(&self, sandbox: &Sandbox, others: &[&str]) {
        for host in std::iter::once(self.host.as_str()).chain(others.iter().copied()) {
            let dir = format!("etc/tinyd/certs.d/{host}");
            let _ = match self.is_plain {
                true => sandbox.file(&format!("{dir}/hosts.toml"), &format!("server = \"http://{host}\"\n")),
                false => sandbox.file(&format!("{dir}/ca.crt"), &self.authority()),
            };
        }
    }

    /// `NAME` as this registry has it: `127.0.0.1:5000/NAME`.
    #[must_use]
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Runs skopeo, which knows the password and the authority; `@` in `words` is this registry.
    ///
    /// # Panics
    /// When it fails.
    pub fn skopeo(&self, sandbox: &Sandbox, words: &str) -> Output {
        let certs = self.dir.join("certs.d").display().to_string();
        if !self.is_plain {
            let _ = fs::create_dir_all(&certs);
            fs::write(format!("{certs}/ca.crt"), self.authority()).expect("write the authority");
        }
        let words = words.replace('@', &format!("docker://{}", self.host));
        let (verb, rest) = words.split_once(' ').expect("a verb and its words");
        // Its last words are where it comes from and where it goes.
        let mut places = rest.split_whitespace().rev();
        let (to, from) = (places.next().unwrap_or_default(), places.next().unwrap_or_default());
        let sides: &[(&str, &str)] =
            if verb == "copy" { &[("src-", from), ("dest-", to)] } else { &[("", to)] };
        let options: String = sides
            .iter()
            .filter(|(_, place)| place.contains(&self.host))
            .map(|(side, _)| match self.is_plain {
                true => format!("--{side}tls-verify=false "),
                false => format!("--{side}creds '{USER}:{PASSWORD}' --{side}cert-dir {certs} "),
            })
            .collect();
        sandbox.host().sh(&format!("skopeo --insecure-policy {verb} {options}{rest}")).expect_ok()
    }

    /// Puts a document under a name as it is, with curl.
    ///
    /// # Panics
    /// When the registry does not take it.
    pub fn put_manifest(&self, sandbox: &Sandbox, name: &str, tag: &str, kind: &str, document: &str) {
        let file = sandbox.file("document.json", document);
        let line = format!(
            "curl -fsS --cacert {}/certs/ca.pem -u '{USER}:{PASSWORD}' -X PUT -H 'Content-Type: {kind}' --data-binary @{file} https://{}/v2/{name}/manifests/{tag}",
            self.dir.display(),
            self.host
        );
        let _ = sandbox.host().sh(&line).expect_ok();
    }

    /// What it was asked for, a line each, as web servers log it.
    #[must_use]
    pub fn access(&self) -> String {
        fs::read_to_string(self.dir.join("access")).unwrap_or_default()
    }

    /// How often each blob was given out since it was so far with its log, by status: `sha256:… 200`.
    #[must_use]
    pub fn blobs_given(&self, since: usize) -> BTreeMap<String, u32> {
        let mut given = BTreeMap::new();
        for line in self.access().get(since..).unwrap_or_default().lines() {
            let Some((_, asked)) = line.split_once("\"GET ") else { continue };
            let mut words = asked.split_whitespace();
            let (path, status) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
            if let Some((_, digest)) = path.split_once("/blobs/")
                && status.starts_with('2')
            {
                *given.entry(format!("{digest} {status}")).or_insert(0) += 1;
            }
        }
        given
    }

    /// Ends it.
    pub fn end(mut self) {
        self.child.signal(rustix::process::Signal::TERM);
        self.child.wait();
    }
}

/// What is between somebody and a registry: it lets so many bytes come from there, and holds the rest back until it is opened.
#[derive(Debug)]
pub struct Dam {
    /// Where it listens.
    pub host: String,
    left: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

impl Dam {
    /// Before `registry`, on a port of its own.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn before(registry: &Registry, sandbox: &Sandbox, port: u16, bytes: u64) -> Dam {
        let host = format!("127.0.0.1:{port}");
        let (left, open) = (Arc::new(AtomicU64::new(bytes)), Arc::new(AtomicUsize::new(0)));
        let listener = sandbox.host().in_network(|| TcpListener::bind(&host)).expect("listen");
        let dam = Dam { host, left: Arc::clone(&left), open: Arc::clone(&open) };
        let (to, network) = (registry.host.clone(), format!("/proc/{}/ns/net", sandbox.host().pid()));
        // Threads that end with this process, or when both sides have gone.
        thread::spawn(move || {
            if !enter(&network) {
                return;
            }
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&to) else { continue };
                let (left, open) = (Arc::clone(&left), Arc::clone(&open));
                open.fetch_add(1, Ordering::SeqCst);
                let sides = near.try_clone().and_then(|near| Ok((near, far.try_clone()?)));
                let Ok((near_again, far_again)) = sides else { continue };
                thread::spawn(move || {
                    flow(near_again, far_again, None);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
                thread::spawn(move || flow(far, near, Some(&left)));
            }
        });
        dam
    }

    /// Lets so many bytes more through.
    pub fn more(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Lets everything through.
    pub fn open(&self) {
        self.left.store(u64::MAX, Ordering::SeqCst);
    }

    /// Whether as many bytes came through as may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// How many connections there are to here that are not closed.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

fn enter(network: &str) -> bool {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let entered = fs::File::open(network).map(|network| {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), Some(LinkNameSpaceType::Network))
    });
    matches!(entered, Ok(Ok(())))
}

/// Passes bytes on until one side closes; as many as there are left.
fn flow(mut from: TcpStream, mut to: TcpStream, left: Option<&AtomicU64>) {
    let mut piece = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let mut sent = 0;
        while sent < count {
            let may = left.map_or(u64::MAX, |left| left.load(Ordering::SeqCst));
            let next = usize::try_from(may).unwrap_or(usize::MAX).min(count - sent);
            if next == 0 {
                // Who waits for it may have gone.
                if to.take_error().is_err() || is_closed(&to) {
                    return;
                }
                // Nobody tells when the test lets more through, and no test depends on how soon it is seen.
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            if to.write_all(&piece[sent..sent + next]).is_err() {
                return;
            }
            sent += next;
            if let Some(left) = left.filter(|_| may != u64::MAX) {
                let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                    (now != u64::MAX).then(|| now.saturating_sub(next as u64))
                });
            }
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn is_closed(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let closed = matches!(stream.peek(&mut [0]), Ok(0));
    let _ = stream.set_nonblocking(false);
    closed
}
