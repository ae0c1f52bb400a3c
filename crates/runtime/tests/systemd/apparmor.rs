//! A profile of AppArmor, where the kernel has it and there is the program that loads profiles: as Debian is.

use std::{fs, process::Command};

use serde_json::json;

use crate::driver::Bundle;

/// A profile that the kernel knows for as long as this lives, by its name.
struct Profile(String);

impl Profile {
    /// Everything is allowed but one file.
    fn load(bundle: &Bundle) -> Profile {
        let name = format!("tinyrun-{}", bundle.id);
        let file = bundle.dir.join("profile");
        let rules = "file, capability, network, unix, ptrace, signal, deny /etc/passwd r,";
        let text = format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{ {rules} }}\n");
        fs::write(&file, text).unwrap();
        let status = Command::new("apparmor_parser").args(["--add", "--skip-cache"]).arg(file).status();
        assert!(status.unwrap().success());
        Profile(name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let removed = fs::write("/sys/kernel/security/apparmor/.remove", &self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

#[test]
fn a_profile_confines_the_program_and_whoever_is_added() {
    let bundle = Bundle::new("apparmor");
    let profile = Profile::load(&bundle);
    let confined = format!("{} (enforce)", profile.0);
    let look = "cat /proc/self/attr/current; cat /etc/passwd";
    let mut bundle = bundle.script(look);
    bundle.spec["process"]["apparmorProfile"] = json!(profile.0);
    let said = bundle.run();
    assert_eq!(said.out, confined, "{said:?}");
    assert!(said.err.contains("'/etc/passwd': Permission denied"), "{said:?}");
    // The same for a process that is added, or what it asks for.
    let bundle = bundle.args(&["sleep", "1000"]);
    bundle.write();
    bundle.tinyrun(&["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    assert_eq!(bundle.tinyrun(&["exec", &bundle.id, "sh", "-c", look]).out, confined);
    let said = bundle.tinyrun(&["exec", "--apparmor", "unconfined", &bundle.id, "sh", "-c", look]);
    assert!(said.out.starts_with("unconfined\nroot:"), "{said:?}");
    let said = bundle.tinyrun(&["exec", "--apparmor", "tinyrun-nobody", &bundle.id, "true"]);
    said.fails(255, "process.apparmorProfile: write(\"exec tinyrun-nobody\"): No such file or directory");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    drop(profile);
    bundle.run().fails(1, "process.apparmorProfile: write(");
}
