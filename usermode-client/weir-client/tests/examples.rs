//! The examples say how they are used: in their first lines, in the README, and
//! to who runs them without arguments.

use std::path::Path;

#[test]
fn each_example_says_how_it_is_used() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let table = std::fs::read_to_string(folder.join("README.md")).expect("a README");
    let mut seen = 0;
    for file in std::fs::read_dir(&folder).expect("a folder") {
        let path = file.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).expect("text");
        let name = path.file_stem().expect("a name").to_string_lossy();
        let usage = text
            .lines()
            .find_map(|line| line.strip_prefix("//! usage: "))
            .expect("a usage in the first lines");
        assert!(usage.starts_with(&format!("{name} ")), "{usage}");
        assert!(
            table.contains(&format!("| `{name}.rs` | `{usage}` |")),
            "{name}"
        );
        assert!(text.contains(&format!("\"usage: {usage}\"")), "{name}");
    }
    assert!(seen >= 7, "{seen}");
}
