use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

static NEXT: AtomicU32 = AtomicU32::new(0);

struct Etc {
    dir: PathBuf,
    files: HostFiles,
}

impl Etc {
    fn new(files: &[(&str, &str)]) -> Etc {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("tinyd-hosts-{}-{number}", std::process::id()));
        for (name, text) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let files = HostFiles {
            certs_d: vec![dir.join("certs.d")],
            registries_conf: vec![dir.join("registries.conf")],
        };
        Etc { dir, files }
    }

    fn of(&self, reference: &str) -> Vec<Endpoint> {
        self.files.endpoints(&reference.parse().unwrap()).unwrap()
    }

    fn error(&self, reference: &str) -> Error {
        self.files.endpoints(&reference.parse().unwrap()).unwrap_err()
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        let _ = crate::tree::remove(&self.dir);
    }
}

fn bases(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|one| one.base.to_string()).collect()
}

#[test]
fn without_configuration_everything_is_tls_even_on_this_machine() {
    let etc = Etc::new(&[]);
    assert_eq!(bases(&etc.of("redis")), ["https://registry-1.docker.io/v2"]);
    for here in ["localhost:5000/a", "127.0.0.1:5000/a", "[::1]:5000/a"] {
        let all = etc.of(here);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].base.scheme_str(), Some("https"), "{here}");
        assert_eq!(all[0].trust, Trust::default(), "{here}");
    }
}

#[test]
fn hosts_toml_is_read_as_containerd_does() {
    let etc = Etc::new(&[(
        "certs.d/docker.io/hosts.toml",
        r#"
server = "https://registry-1.docker.io"
[host."https://z.example"]
  capabilities = ["pull", "resolve"]
  ca = ["z.crt", "/etc/z2.crt"]
  client = [["a.cert", "a.key"]]
  [host."https://z.example".header]
    x-key = ["secret"]
[host."http://a.example:5000/path"]
  capabilities = ["pull"]
  skip_verify = true
[host."https://b.example/own/api"]
  override_path = true
"#,
    )]);
    let all = etc.of("redis");
    assert_eq!(
        bases(&all),
        [
            "https://z.example/v2",
            "http://a.example:5000/path/v2",
            "https://b.example/own/api",
            "https://registry-1.docker.io/v2"
        ]
    );
    let dir = etc.dir.join("certs.d/docker.io");
    assert_eq!(all[0].trust.authorities, [dir.join("z.crt"), "/etc/z2.crt".into()]);
    assert_eq!(all[0].trust.client, Some((dir.join("a.cert"), dir.join("a.key"))));
    assert!(!all[0].trust.plain && !all[0].trust.skip_verify);
    assert!(!format!("{:?}", all[0]).contains("secret"));
    assert_eq!(all[1].can, Can { pull: true, resolve: false, push: false });
    assert!(all[1].trust.plain && all[1].trust.skip_verify);
    let accounts: Vec<_> = all.iter().map(|one| one.account.as_str()).collect();
    assert_eq!(accounts, ["z.example", "a.example:5000", "b.example", "docker.io"]);
    assert_eq!(all[0].namespace.as_deref(), Some("docker.io"));
    assert_eq!(all[3].namespace, None);
}

#[test]
fn a_registry_with_a_port_has_a_directory_of_either_name_or_the_default() {
    let etc = Etc::new(&[
        ("certs.d/a.example_5000_/hosts.toml", "server = \"http://a.example:5000\"\n"),
        ("certs.d/_default/hosts.toml", "[host.\"https://mirror.example\"]\n"),
    ]);
    assert_eq!(bases(&etc.of("a.example:5000/x")), ["http://a.example:5000/v2"]);
    assert_eq!(bases(&etc.of("b.example/x")), ["https://mirror.example/v2", "https://b.example/v2"]);
}

#[test]
fn dockers_certificates_are_taken() {
    let etc = Etc::new(&[
        ("certs.d/a.example:5000/ca.crt", ""),
        ("certs.d/a.example:5000/client.cert", ""),
        ("certs.d/a.example:5000/client.key", ""),
        ("certs.d/b.example/client.cert", ""),
    ]);
    let dir = etc.dir.join("certs.d/a.example:5000");
    let trust = &etc.of("a.example:5000/x")[0].trust;
    assert_eq!(trust.authorities, [dir.join("ca.crt")]);
    assert_eq!(trust.client, Some((dir.join("client.cert"), dir.join("client.key"))));
    assert!(etc.error("b.example/x").message().contains("client.key"));
}

#[test]
fn a_bad_file_is_told_by_file_key_and_value() {
    for (text, parts) in [
        ("[host.\"https://m\"]\ncapabilities = [\"pul\"]\n", &["hosts.toml", "capabilities", "\"pul\""][..]),
        ("server = \"ftp://x\"\n", &["hosts.toml", "server", "ftp://x"]),
        ("\nskip_verify = \"yes\"\n", &["hosts.toml", "invalid type"]),
        ("server = \n", &["hosts.toml", "line 1"]),
        ("[header]\n\"a b\" = \"secret\"\n", &["hosts.toml", "header", "a b"]),
    ] {
        let etc = Etc::new(&[("certs.d/a.example/hosts.toml", text)]);
        let error = etc.error("a.example/x");
        assert_eq!(error.kind(), Kind::InvalidArgument);
        for part in parts {
            assert!(error.message().contains(part), "{text:?}: {error}");
        }
        assert!(!error.message().contains("secret"), "{error}");
    }
}

#[test]
fn registries_conf_names_mirrors_and_rewrites() {
    let etc = Etc::new(&[
        (
            "registries.conf",
            r#"
unqualified-search-registries = ["evil.example"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.example:5000/hub"
pull-from-mirror = "digest-only"
[[registry]]
location = "plain.example"
insecure = true
[[registry]]
prefix = "*.inner.example"
blocked = true
"#,
        ),
        (
            "registries.conf.d/50-more.conf",
            "[[registry]]\nprefix = \"docker.io/library/redis\"\nlocation = \"b.example/our/redis\"\n",
        ),
    ]);
    let all = etc.of("busybox");
    assert_eq!(bases(&all), ["https://mirror.example:5000/v2", "https://registry-1.docker.io/v2"]);
    assert_eq!(all[0].repository, "hub/library/busybox");
    assert_eq!(all[0].can, Can { pull: true, resolve: false, push: false });
    assert_eq!(all[0].account, "mirror.example:5000");
    let moved = etc.of("redis:7");
    assert_eq!(
        (bases(&moved), moved[0].repository.as_str()),
        (vec!["https://b.example/v2".into()], "our/redis")
    );
    assert_eq!(moved[0].account, "docker.io");
    assert_eq!(etc.of("docker.io/library/redis2")[0].repository, "hub/library/redis2");
    let insecure = etc.of("plain.example/x");
    assert_eq!(bases(&insecure), ["https://plain.example/v2", "http://plain.example/v2"]);
    assert!(insecure[0].trust.skip_verify && insecure[1].trust.plain);
    assert!(!etc.of("plain.example.evil/x")[0].trust.skip_verify);
    assert_eq!(etc.error("a.inner.example/x").kind(), Kind::PermissionDenied);
}
