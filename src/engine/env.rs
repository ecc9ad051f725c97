//! The engine's configuration: environment variables, engine.cfg, and the root of its tree.

use std::path::{Component, Path, PathBuf};

/// Values that OpenGnsys' loadenviron.sh and engine.cfg set, used when neither was read.
const DEFAULTS: &[(&str, &str)] = &[
    ("OGIMG", "/opt/opengnsys/images"),
    ("OGCAC", "/opt/opengnsys/cache"),
    ("OGETC", "/opt/opengnsys/etc"),
    ("OGLOG", "/opt/opengnsys/log"),
    ("OGLOGSESSION", "/tmp/session.log"),
    ("OGLOGCOMMAND", "/tmp/command.log"),
    ("IMGPROG", "partclone"),
    ("IMGCOMP", "lzop"),
    ("IMGREDUCE", "TRUE"),
    ("OGWINREDUCE", "TRUE"),
    ("ACTIONCACHEFULL", "NONE"),
    ("RESTOREPROTOCOLNOTCACHE", "NONE"),
    ("MCASTERRORSESSION", "120"),
    ("MCASTWAIT", "30"),
];

/// The trees that `OGBOX_ROOT` moves: all that the engine itself reads or writes.
const MOVED: &[&str] = &["/opt/opengnsys", "/mnt", "/tmp", "/dev", "/proc/partitions", "/sys", "/var"];

/// Environment variables, engine.cfg and the root of the engine's tree, as read at start.
pub struct Env {
    root: Option<PathBuf>,
    variables: Vec<(String, String)>,
    config: Vec<(String, String)>,
}

impl Env {
    /// The configuration of this process.
    pub fn of_process() -> Env {
        // None of the engine's variables holds anything but UTF-8.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Env::new(std::env::vars_os().filter_map(text).collect())
    }

    /// The configuration that `variables` give; engine.cfg is read from their `OGETC`.
    pub fn new(variables: Vec<(String, String)>) -> Env {
        let mut env = Env { root: None, variables, config: Vec::new() };
        env.root = env.variable("OGBOX_ROOT").filter(|root| !root.is_empty()).map(PathBuf::from);
        let config = std::fs::read_to_string(env.path("OGETC").join("engine.cfg")).unwrap_or_default();
        env.config = parse_config(&config);
        env
    }

    /// Whether the engine's tree is below `OGBOX_ROOT`.
    pub fn is_moved(&self) -> bool {
        self.root.is_some()
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A variable's value: from the environment, else engine.cfg, else OpenGnsys' default; empty if unset.
    pub fn get(&self, name: &str) -> &str {
        let listed = || self.config.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let default = || DEFAULTS.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        self.variable(name).or_else(listed).or_else(default).unwrap_or_default()
    }

    /// The path that a variable holds, within the engine's tree.
    pub fn path(&self, name: &str) -> PathBuf {
        self.rooted(self.get(name))
    }

    /// Maps `path` into the engine's tree: with `OGBOX_ROOT=DIR` the engine's own trees are below DIR.
    pub fn rooted(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match &self.root {
            Some(root) if !path.starts_with(root) && MOVED.iter().any(|tree| path.starts_with(tree)) => {
                root.join(path.strip_prefix("/").unwrap_or(path))
            }
            _ => path.to_owned(),
        }
    }
}

/// Parses the part of engine.cfg that needs no shell: `KEY=value`, quotes, comments.
fn parse_config(text: &str) -> Vec<(String, String)> {
    let assignment = |line: &str| {
        let line = line.trim();
        let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default(),
            _ => value.split([' ', '\t', ';', '#']).next().unwrap_or_default(),
        };
        plain.then(|| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(assignment).collect()
}

/// `name` as a path that cannot leave the directory it is joined to: without a root; `None` if it has a `..`.
pub fn relative(name: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Env {
        Env::new(variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_environment_wins_over_engine_cfg_and_that_over_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("opt/opengnsys/etc");
        std::fs::create_dir_all(&etc).unwrap();
        let config = "# engine\n  IMGCOMP=gzip # smaller\nexport IMGPROG='partclone'\nIMGREDUCE=\"FALSE\"\nset -a\n\
                      if [ a=b ]\nIMGEXT=img;\nIMGCOMP=none\n";
        std::fs::write(etc.join("engine.cfg"), config).unwrap();
        let env = env(&[("OGBOX_ROOT", dir.path().to_str().unwrap()), ("IMGREDUCE", "TRUE")]);
        let names = ["IMGCOMP", "IMGPROG", "IMGREDUCE", "IMGEXT", "ACTIONCACHEFULL", "NOTHING"];
        assert_eq!(names.map(|name| env.get(name)), ["none", "partclone", "TRUE", "img", "NONE", ""]);
    }

    #[test]
    fn only_the_engines_trees_move_and_only_once() {
        let here = env(&[]);
        assert_eq!(here.path("OGIMG"), Path::new("/opt/opengnsys/images"));
        let moved = env(&[("OGBOX_ROOT", "/tmp/lab")]);
        for (path, is) in [
            ("/opt/opengnsys/images", "/tmp/lab/opt/opengnsys/images"),
            ("/tmp/lab/mnt/sda1", "/tmp/lab/mnt/sda1"),
            ("/tmp/session.log", "/tmp/lab/tmp/session.log"),
            ("/proc/self/mountinfo", "/proc/self/mountinfo"),
            ("/home/x.img", "/home/x.img"),
        ] {
            assert_eq!(moved.rooted(path), Path::new(is));
        }
    }

    #[test]
    fn a_relative_path_never_leaves() {
        assert_eq!(relative("//aula1/./win.img/").unwrap(), Path::new("aula1/win.img"));
        assert_eq!(relative("/aula1/../../etc/passwd"), None);
    }
}
