//! Who a process is: numbers that are taken as they are written, groups, capability sets.

use serde_json::{Value, json};

use crate::driver::{Bundle, Said};

impl Bundle {
    fn capabilities(mut self, names: &[&str], sets: &[&str]) -> Bundle {
        self.spec["process"]["capabilities"] = json!({});
        for set in sets {
            self.spec["process"]["capabilities"][set] = json!(names);
        }
        self
    }

    fn exec(&self, args: &[&str]) -> Said {
        self.tinyrun(&[&["exec"], args].concat())
    }
}

const STATUS: [&str; 4] = ["grep", "-E", "^(Cap(Inh|Prm|Eff|Amb)|Groups)", "/proc/self/status"];

/// What a process says of itself: inheritable, permitted, effective, ambient.
fn sets(said: &Said) -> [String; 4] {
    let value = |name: &str| {
        let line = said.out.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}: {said:?}")).split_whitespace().nth(1).unwrap().to_owned()
    };
    [value("CapInh"), value("CapPrm"), value("CapEff"), value("CapAmb")]
}

const NONE: &str = "0000000000000000";

/// What a configuration that gives no inheritable and no ambient capability comes to, for the first process and for others, with
/// and without the right to gain more.
#[test]
fn nothing_is_inheritable_or_ambient_for_run_and_exec() {
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::new("caps-run").args(&STATUS);
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let [inheritable, permitted, effective, ambient] = sets(&bundle.run());
        assert_eq!((inheritable.as_str(), ambient.as_str()), (NONE, NONE));
        assert!(permitted != NONE && permitted == effective);
        let bundle = bundle.args(&["sleep", "1000"]);
        bundle.write();
        bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
        for more in [&[][..], &["--cap", "CAP_SYS_ADMIN"]] {
            let said = bundle.exec(&[more, &[&bundle.id], &STATUS].concat());
            let [inheritable, permitted, effective, ambient] = sets(&said);
            assert_eq!((inheritable.as_str(), ambient.as_str()), (NONE, NONE), "{more:?}");
            assert!(permitted == effective, "{more:?}: {said:?}");
        }
    }
}

/// Root's set, and another user: permitted and effective end with the program.
#[test]
fn another_user_holds_no_capability() {
    let all = ["bounding", "effective", "permitted"];
    let mut bundle = Bundle::new("caps-user").capabilities(&["CAP_KILL", "CAP_CHOWN"], &all).args(&STATUS);
    bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    assert_eq!(sets(&bundle.run()), [NONE; 4]);
    bundle.spec["process"]["user"] = json!({ "uid": 0, "gid": 0 });
    let bundle = bundle.args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let exec = |more: &[&str]| sets(&bundle.exec(&[more, &[&bundle.id], &STATUS].concat()));
    assert_eq!(exec(&["--user", "1000:1000"]), [NONE; 4]);
    assert_eq!(exec(&["--user", "1000", "--cap", "CAP_SYS_ADMIN"]), [NONE; 4]);
    assert_eq!(exec(&[])[1..3], ["0000000000000021", "0000000000000021"]);
}

/// A set that asks for more than the one above it has gets nothing of it.
#[test]
fn an_ambient_capability_needs_its_place_in_the_others() {
    let bundle = Bundle::new("caps-ambient").capabilities(&["CAP_KILL"], &["bounding", "ambient"]);
    assert_eq!(sets(&bundle.args(&STATUS).run()), [NONE; 4]);
}

#[test]
fn the_callers_groups_stay_outside() {
    for users in [false, true] {
        let bundle = Bundle::new(&format!("groups-{users}")).args(&["id", "-G"]);
        let mut bundle = if users { bundle.with_users() } else { bundle };
        bundle.write();
        let around = ["setpriv", "--groups", "5,6,7"];
        let dir = bundle.dir.to_str().unwrap().to_owned();
        bundle.tinyrun_in(&around, &["run", "--bundle", &dir, &bundle.id]).says("0");
        bundle.spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [50] });
        bundle.write();
        bundle.tinyrun_in(&around, &["run", "--bundle", &dir, &bundle.id]).says("1000 50");
        let bundle = bundle.args(&["sleep", "1000"]);
        bundle.write();
        bundle.tinyrun_in(&around, &["run", "-d", "--bundle", &dir, &bundle.id]).says("");
        let exec = ["exec", "--user", "1000:1000", &bundle.id, "id", "-G"];
        bundle.tinyrun_in(&around, &exec).says("1000");
        assert_eq!(bundle.exec(&["--user", "0:0", &bundle.id, "id", "-G"]).out, "0");
    }
}

/// `4294967296` as a 32 bit number is root's; `4294967295` is "do not change" to many calls.
#[test]
fn a_number_is_never_wrapped_and_never_taken_for_another() {
    let mut bundle = Bundle::new("numbers").args(&["id", "-u"]);
    let user =
        |uid: Value, gid: Value, more: Value| json!({ "uid": uid, "gid": gid, "additionalGids": more });
    let wrong = [
        json!(4_294_967_296_u64),
        json!(4_294_967_295_u64),
        json!(2_147_483_648_u64),
        json!(-1),
        json!("0"),
        json!(0.5),
    ];
    for number in &wrong {
        for bad in [
            user(number.clone(), json!(0), json!([])),
            user(json!(0), number.clone(), json!([])),
            user(json!(0), json!(0), json!([5, number])),
        ] {
            bundle.spec["process"]["user"] = bad.clone();
            let said = bundle.run();
            assert!(said.code == 1 && said.out.is_empty(), "{bad}: {said:?}");
        }
    }
    bundle.spec["process"]["user"] = user(json!(2_147_483_647), json!(2_147_483_647), json!([]));
    bundle.run().says("2147483647");
    bundle.spec["process"]["user"] = user(json!(0), json!(0), json!([]));
    let bundle = bundle.args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let words = [
        "4294967296",
        "4294967295",
        "2147483648",
        "-1",
        "+0",
        "0x0",
        "0.",
        "00x",
        " 0",
        "0 ",
        "root",
        "1e3",
        "٣",
    ];
    for word in words {
        for user in [word.to_owned(), format!("0:{word}")] {
            bundle.exec(&["--user", &user, &bundle.id, "id"]).fails(255, "--user: ");
        }
    }
    bundle.exec(&["--user", "007:008", &bundle.id, "id", "-u"]).says("7");
}

/// What would split a line of the kernel's, or end a string early.
#[test]
fn names_and_paths_with_a_nul_or_a_control_character_are_refused() {
    let refused = |pointer: &str, value: Value, field: &str| {
        let mut bundle = Bundle::new("control").script("true");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        bundle.spec.pointer_mut(parent).unwrap()[key] = value;
        bundle.run().fails(1, field);
    };
    refused("/hostname", json!("a\nb"), "hostname");
    refused("/hostname", json!("a\u{0}b"), "hostname");
    refused("/domainname", json!("a\u{1b}[31m"), "domainname");
    refused("/process/cwd", json!("/a\u{0}b"), "process.cwd");
    refused("/process/args", json!(["true", "a\u{0}b"]), "process.args[1]");
    refused("/process/env", json!(["A=\u{0}"]), "process.env[0]");
    refused("/linux/cgroupsPath", json!("/a\u{7}"), "linux.cgroupsPath");
    refused("/linux/cgroupsPath", json!("/a\u{0}"), "linux.cgroupsPath");
    refused("/linux/maskedPaths", json!(["/a\u{0}"]), "linux.maskedPaths[0]");
    refused("/linux/sysctl", json!({ "net.ipv4\n.x": "1" }), "linux.sysctl");
    refused("/mounts", json!([{ "destination": "/a\u{0}", "type": "tmpfs" }]), "mounts[0].destination");
    refused("/mounts", json!([{ "destination": "/a", "type": "bind", "source": "/\u{0}" }]), "mounts[0]");
    // What may have one is told without it.
    let bundle = Bundle::new("control-told").script("true");
    let bundle = bundle.mount("/a\u{1b}[31m", "bind", "/none\u{7}", &["bind"]);
    let said = bundle.run();
    said.fails(1, "does not exist");
    assert!(!said.err.contains(['\u{1b}', '\u{7}']) && said.err.contains("\\u{1b}[31m"), "{said:?}");
    let bundle = Bundle::new("control-id").script("true");
    bundle.write();
    for id in ["a\nb", "a\u{1b}b", "a b"] {
        let said = bundle.tinyrun(&["run", "--bundle", bundle.dir.to_str().unwrap(), id]);
        said.fails(1, "id");
        assert!(!said.err.contains(['\u{1b}', '\n']), "it is not echoed raw: {said:?}");
    }
}
