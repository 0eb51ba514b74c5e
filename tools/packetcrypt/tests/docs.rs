//! Documents and examples against the program: every key with its default, and files that parse.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `--print-config` says of a key that has no value.
const NOT_SET: &str = "none";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Standard output and error of the command, without variables of ours.
fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetcrypt"));
    command.current_dir(dir).args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PACKETCRYPT_") {
            command.env_remove(name);
        }
    }
    let output = command.output().expect("the command runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Keys and values by table, as `--print-config` prints them.
fn printed(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut tables = BTreeMap::<String, BTreeMap<String, String>>::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = name.to_owned();
            continue;
        }
        let (said, _origin) = line.split_once("  # ").expect("a line ends with its origin");
        let (key, value) = match said.strip_prefix("# ") {
            Some(unset) => (unset.strip_suffix(" is not set").expect("not set"), NOT_SET),
            None => said.split_once(" = ").expect("a key and its value"),
        };
        tables.entry(table.clone()).or_default().insert(key.to_owned(), value.to_owned());
    }
    tables
}

/// Keys and defaults of the table below a heading: rows `` | `key` | `default` | meaning | ``.
fn documented(text: &str, heading: &str) -> BTreeMap<String, String> {
    let code = |cell: &str| cell.trim().trim_matches('`').to_owned();
    text.lines()
        .skip_while(|line| *line != format!("### {heading}"))
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            assert!(cells.len() >= 5 && !cells[3].trim().is_empty(), "no meaning: {line}");
            (code(cells[1]), code(cells[2]))
        })
        .collect()
}

#[test]
fn every_key_is_documented_with_its_default() {
    let dir = tempfile::tempdir().unwrap();
    let text = read("docs/operating.md");
    for (role, table, heading) in [
        (&["master"][..], "node", "`[node]`"),
        (&["master"], "master", "`[master]`"),
        (&["paymaker"], "paymaker", "`[paymaker]`"),
        (&["ah", "x"], "ann_handler.x", "`[ann_handler.NAME]`"),
        (&["bh", "x"], "block_handler.x", "`[block_handler.NAME]`"),
        (&["ann"], "ann", "`packetcrypt ann`"),
        (&["blk"], "blk", "`packetcrypt blk`"),
    ] {
        let (_, output, _) = run(dir.path(), &[role, &["--print-config"]].concat());
        let documented = documented(&text, heading);
        assert_eq!(documented, printed(&output)[table], "docs/operating.md, {heading}");
    }
}

#[test]
fn the_keys_of_a_sprayer_table_are_documented() {
    let dir = tempfile::tempdir().unwrap();
    let sprayer = ["-s", "10.0.0.1:1", "-b", "0.0.0.0:1", "-P", "x", "--mcast", "239.0.0.1"];
    let (_, output, error) = run(dir.path(), &[&["blk", "--print-config"][..], &sprayer].concat());
    let table: toml::Table = output.parse().unwrap_or_else(|e| panic!("{e}: {output}{error}"));
    let text = read("docs/operating.md");
    let row = text.lines().find(|line| line.starts_with("| `sprayer` |")).expect("a row");
    for key in table["blk"]["sprayer"].as_table().expect("a table").keys() {
        assert!(row.contains(&format!("`{key}`")), "{key} is missing in: {row}");
    }
}

#[test]
fn the_example_is_a_pool_and_stands_in_the_documents() {
    let dir = tempfile::tempdir().unwrap();
    let example = read("tools/packaging/pool.toml");
    fs::write(dir.path().join("pool.toml"), &example).unwrap();
    let body = example.find("master_url").expect("the first key");
    assert!(read("docs/operating.md").contains(&example[body..]), "docs/operating.md differs");
    for role in [&["master"][..], &["paymaker"], &["ah", "east"], &["bh", "main"]] {
        let (code, output, error) = run(dir.path(), &[role, &["--print-config"]].concat());
        assert_eq!((code, error.as_str()), (Some(0), ""), "{role:?}");
        assert!(!output.contains("change me"), "a secret is shown: {output}");
    }
    let (_, output, _) = run(dir.path(), &["master", "--print-config"]);
    for line in [
        "ann_handlers = [{ url = \"http://pool.example:8081\" }]  # ./pool.toml",
        "blk_handlers = [{ url = \"http://pool.example:8082\" }]  # ./pool.toml",
        "paymaker_url = \"http://127.0.0.1:8083\"  # ./pool.toml",
        "dir = \"/var/lib/packetcrypt/master\"  # ./pool.toml",
    ] {
        assert!(output.lines().any(|have| have == line), "{line}: {output}");
    }
}

/// What a unit or the container file starts is a command with those options.
#[test]
fn units_start_commands_that_exist() {
    let dir = tempfile::tempdir().unwrap();
    let units = root().join("tools/packaging/systemd");
    let mut count = 0;
    for entry in fs::read_dir(units).expect("units") {
        let path = entry.expect("an entry").path();
        let unit = fs::read_to_string(&path).expect("text");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart="));
        let words: Vec<&str> = start.expect("ExecStart").split(' ').collect();
        assert_eq!(words[0], "/usr/local/bin/packetcrypt", "{}", path.display());
        let (code, help, _) = run(dir.path(), &[words[1], "--help"]);
        assert_eq!(code, Some(0), "{}", path.display());
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{}: {option}", path.display());
        }
        let is_template = path.to_string_lossy().contains('@');
        assert_eq!(is_template, words.contains(&"%i"), "{}", path.display());
        for line in ["NoNewPrivileges=yes", "ProtectSystem=strict", "User=packetcrypt"] {
            assert!(unit.lines().any(|have| have == line), "{}: {line}", path.display());
        }
        count += 1;
    }
    assert_eq!(count, 7, "one unit for each role that runs for long");
}

/// Links between the documents lead somewhere.
#[test]
fn links_of_the_documents_lead_to_files() {
    let mut documents =
        vec!["README.md".to_owned(), "CHANGELOG.md".to_owned(), "tools/packaging/README.md".into()];
    for entry in fs::read_dir(root().join("docs")).expect("docs") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        documents.push(format!("docs/{name}"));
    }
    let mut count = 0;
    for document in documents.iter().filter(|name| name.ends_with(".md")) {
        let text = read(document);
        let here = root().join(document).parent().expect("a directory").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            if path.is_empty() {
                // As GitHub makes names of sections from their titles.
                let named = |line: &str| -> String {
                    let title = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = title.chars().filter(|c| c.is_alphanumeric() || "- _".contains(*c));
                    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
                };
                let titles = text.lines().filter(|line| line.starts_with('#'));
                let known: Vec<String> = titles.map(named).collect();
                assert!(known.iter().any(|known| known == section), "{document}: #{section}");
            } else {
                assert!(here.join(path).exists(), "{document}: {link}");
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count} links found");
}
