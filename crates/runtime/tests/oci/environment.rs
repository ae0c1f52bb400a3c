//! What a program finds in its environment that the configuration does not say, or says twice.

use std::{fs, io::Write, os::unix::fs::symlink, path::Path};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;

use crate::{driver::Bundle, sweep::Case};

/// A bundle that shows its HOME, as user `uid`.
fn shows_home(id: &str, uid: u32, env: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(id).script("echo $HOME");
    bundle.spec["process"]["user"] = json!({ "uid": uid, "gid": uid });
    bundle.spec["process"]["env"] = json!(["PATH=/bin"]);
    bundle.spec["process"]["env"].as_array_mut().unwrap().extend(env.iter().map(|entry| json!(entry)));
    fs::create_dir_all(bundle.rootfs("etc")).unwrap();
    fs::write(bundle.rootfs("etc/passwd"), "root:x:0:0::/root:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\n")
        .unwrap();
    bundle
}

#[test]
fn home_is_what_passwd_says_where_nobody_says_more() {
    for (number, (uid, env, home)) in [
        (0, &[][..], "/root"),
        (1000, &[], "/home/joe"),
        (77, &[], "/"),
        (1000, &["HOME=/mine"], "/mine"),
        (1000, &["HOME="], "/home/joe"),
    ]
    .into_iter()
    .enumerate()
    {
        shows_home(&format!("home-{number}"), uid, env).run().says(home);
    }
}

#[test]
fn home_of_an_added_process_is_its_users() {
    let bundle = shows_home("home-exec", 0, &[]).args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", "echo $HOME"]).says("/root");
    bundle.tinyrun(&["exec", "-u", "1000", &bundle.id, "sh", "-c", "echo $HOME"]).says("/home/joe");
    bundle.tinyrun(&["exec", "-e", "HOME=/mine", &bundle.id, "sh", "-c", "echo $HOME"]).says("/mine");
}

/// The file is the container's: a trap in its place is nobody's home, and is not waited for.
#[test]
fn a_passwd_that_is_a_trap_is_not_sprung() {
    let at = |bundle: &Bundle| bundle.rootfs("etc/passwd");
    let plant: [fn(&Path); 3] = [
        |at| rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        |at| symlink("passwd", at).unwrap(),
        // The line is there; what comes behind it makes the file too long to be one.
        |at| {
            let mut file = fs::File::create(at).unwrap();
            file.write_all(b"joe:x:1000:1000::/home/joe:/bin/sh\n").unwrap();
            file.set_len((1 << 20) + 1).unwrap();
        },
    ];
    for (number, plant) in plant.into_iter().enumerate() {
        let bundle = shows_home(&format!("home-trap-{number}"), 1000, &[]);
        fs::remove_file(at(&bundle)).unwrap();
        plant(&at(&bundle));
        bundle.run().says("/");
    }
    // A link leads on inside the root, never to the host's file.
    let bundle = shows_home("home-link", 1000, &[]);
    fs::rename(at(&bundle), bundle.rootfs("etc/other")).unwrap();
    symlink("/etc/other", at(&bundle)).unwrap();
    bundle.run().says("/home/joe");
}

/// What the file says is not known then, and another home would be a guess.
#[test]
fn a_passwd_that_cannot_be_read_for_lack_of_memory_is_an_error() {
    let bundle = shows_home("home-memory", 0, &[]);
    bundle.write();
    let case = Case { before: &[], verb: &["run"] };
    let mut refused = 0;
    for point in case.points(&bundle, &["openat2", "fstat", "read"]) {
        let said = case.play(&bundle, point, "error=ENOMEM");
        assert!(said.code != 0 || said.out == "/root", "{point:?}: {said:?}");
        refused += usize::from(said.err.contains("HOME: read /etc/passwd: "));
        bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    }
    // Looked at and read.
    assert!(refused >= 2, "{refused}");
}

#[test]
fn an_entry_without_a_name_or_without_a_value_is_refused() {
    for (number, (entry, rule)) in
        [("B", "missing '='"), ("", "missing '='"), ("=x", "the name before '=' is empty")]
            .into_iter()
            .enumerate()
    {
        let said = shows_home(&format!("env-wrong-{number}"), 0, &[entry]).run();
        said.fails(1, &format!("process.env[1]: {rule}"));
    }
    let bundle = shows_home("env-exec", 0, &[]).args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["exec", "-e", "B", &bundle.id, "env"]).fails(255, "process.env[1]: missing '='");
}

#[test]
fn without_path_a_program_has_to_be_named_by_its_place() {
    let mut bundle = shows_home("env-no-path", 0, &[]);
    for env in [json!([]), json!(["PATH="])] {
        bundle.spec["process"]["env"] = env;
        bundle = bundle.args(&["env"]);
        bundle.run().fails(1, "\"env\": executable file not found in $PATH");
        bundle = bundle.args(&["/bin/true"]);
        bundle.run().says("");
    }
}

/// getenv(3) finds the first of two: `exec -e TERM=dumb` changed nothing.
#[test]
fn the_last_entry_of_a_name_is_the_one_that_counts() {
    let bundle = shows_home("env-twice", 0, &["X=1", "TERM=xterm", "X=2"]).args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let said = bundle.tinyrun(&["exec", "-e", "TERM=dumb", &bundle.id, "env"]);
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["HOME=/root", "PATH=/bin", "TERM=dumb", "X=2"], "{said:?}");
}
