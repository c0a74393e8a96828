//! Test programs side by side: what cargo has built, and a run of several at a time.
//!
//! Cargo runs one program after another, and most of them wait more than they compute. Here each has its thread, and
//! the output of one at a time is shown as it comes; what the others say follows, whole, when it is their turn.
//! The fields of cargo's messages are those of "JSON messages" in its book, chapter "External tools".

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::outcome::Outcome;
use crate::Failure;
use crate::workspace::status_reading;

/// A test program of cargo's, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Package and target, such as `chelseru-store store`.
    pub(crate) name: String,
    executable: PathBuf,
    /// Folder of its package, where it runs, as with cargo.
    package: PathBuf,
    /// Names of tests and options of the runner.
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(&'static str, PathBuf)>,
}

impl Program {
    /// Reads one line of `cargo test --no-run --message-format=json`; `None` for what is no test program.
    pub(crate) fn read(line: &str) -> Option<Program> {
        let is_test = line.contains(r#""test":true},"features""#);
        if field(line, "reason")? != "compiler-artifact" || !is_test {
            return None;
        }
        let manifest = PathBuf::from(field(line, "manifest_path")?);
        let executable = PathBuf::from(field(line, "executable")?);
        let package = manifest.parent()?.to_owned();
        // The identity of a package ends with `#version` or `#name@version`; its folder has the name then.
        let identity = field(line, "package_id")?;
        let named = identity.rsplit_once('#')?.1.split_once('@').map(|(name, _)| name.to_owned());
        let named = named.or_else(|| Some(package.file_name()?.to_string_lossy().into_owned()))?;
        let target = field(&line[line.find(r#""target":{"#)?..], "name")?;
        Some(Program {
            name: format!("{named} {target}"),
            executable,
            package,
            arguments: Vec::new(),
            variables: Vec::new(),
        })
    }

    /// The same program with other tests.
    pub(crate) fn with(&self, arguments: impl IntoIterator<Item = String>) -> Program {
        Program { arguments: arguments.into_iter().collect(), ..self.clone() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The first string field of that name in a line of JSON. Of the escapes a path can hold, it reads `\"` and `\\`.
fn field(line: &str, name: &str) -> Option<String> {
    let rest = &line[line.find(&format!("\"{name}\":\""))? + name.len() + 4..];
    let mut text = String::new();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) program: Program,
    pub(crate) outcome: Outcome,
    pub(crate) succeeded: bool,
}

/// Runs the programs in their order, at most `at_once` at a time, shows what they say, and returns how each ended, in
/// the order in which they ended.
///
/// # Errors
///
/// A program cannot be started. Those that run are waited for.
pub(crate) fn run_all(programs: Vec<Program>, at_once: usize) -> Result<Vec<Ended>, Failure> {
    run_on(Stage::new(std::io::stdout()), programs, at_once)
}

fn run_on(
    stage: Stage<impl Write + Send>,
    programs: Vec<Program>,
    at_once: usize,
) -> Result<Vec<Ended>, Failure> {
    let stage = Mutex::new(stage);
    let waiting = Mutex::new(programs.into_iter().enumerate().collect::<VecDeque<_>>());
    let ended = Mutex::new(Vec::new());
    let next = || waiting.lock().expect("nobody panics with it").pop_front();
    let worker = || -> Result<(), Failure> {
        while let Some((place, program)) = next() {
            let run =
                run_one(&program, |bytes| stage.lock().expect("nobody panics with it").say(place, bytes));
            stage.lock().expect("nobody panics with it").leave(place);
            let (outcome, succeeded) = run?;
            ended.lock().expect("nobody panics with it").push(Ended { program, outcome, succeeded });
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    Ok(ended.into_inner().expect("nobody panics with it"))
}

fn run_one(program: &Program, mut say: impl FnMut(&[u8])) -> Result<(Outcome, bool), Failure> {
    let mut command = program.command();
    say(format!("\n     Running {} ({})", program.name, shown(&program.executable)).as_bytes());
    let mut outcome = Outcome::default();
    let status = status_reading(command.stdin(Stdio::null()), |bytes| {
        outcome.see(&String::from_utf8_lossy(bytes));
        say(bytes);
    })?;
    if !status.success() && outcome.failed == 0 {
        say(format!("{} ended with {status}", program.name).as_bytes());
    }
    Ok((outcome, status.success()))
}

fn shown(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy()
}

/// Who is heard. Places are numbered in the order in which programs start.
struct Stage<W> {
    out: W,
    /// The place whose lines are shown as they come.
    front: usize,
    /// What the others have said, and whether they have left.
    behind: Vec<(Vec<u8>, bool)>,
}

impl<W: Write> Stage<W> {
    fn new(out: W) -> Stage<W> {
        Stage { out, front: 0, behind: Vec::new() }
    }

    fn say(&mut self, place: usize, line: &[u8]) {
        if place == self.front {
            return self.show(&[line, b"\n"].concat());
        }
        let (said, _) = self.behind(place);
        said.extend_from_slice(line);
        said.push(b'\n');
    }

    /// The place says nothing more. When it was in front, the next one that is still heard comes there.
    fn leave(&mut self, place: usize) {
        self.behind(place).1 = true;
        while self.behind(self.front).1 {
            self.front += 1;
            let said = std::mem::take(&mut self.behind(self.front).0);
            self.show(&said);
        }
    }

    fn behind(&mut self, place: usize) -> &mut (Vec<u8>, bool) {
        if self.behind.len() <= place {
            self.behind.resize(place + 1, (Vec::new(), false));
        }
        &mut self.behind[place]
    }

    /// A closed pipe (`| head`) must not end the tests.
    fn show(&mut self, bytes: &[u8]) {
        let _ = self.out.write_all(bytes).and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTIFACT: &str = concat!(
        r#"{"reason":"compiler-artifact","package_id":"path+file:///r/core/store#chelseru-store@0.1.0","#,
        r#""manifest_path":"/r/a \"b\"/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"#,
        r#""name":"store","src_path":"/r/core/store/tests/store/main.rs","edition":"2024","test":true},"#,
        r#""profile":{"opt_level":"0","test":true},"features":[],"filenames":["/t/deps/store-1"],"#,
        r#""executable":"/t/deps/store-1","fresh":true}"#,
    );

    fn shell(name: &str, script: &str) -> Program {
        Program {
            name: name.to_owned(),
            executable: "sh".into(),
            package: ".".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            variables: vec![("SAID_BY", name.into())],
        }
    }

    #[test]
    fn a_test_program_is_read_from_cargos_message_and_others_are_not() {
        let program = Program::read(ARTIFACT).unwrap();
        assert_eq!(program.name, "chelseru-store store");
        assert_eq!(program.executable, Path::new("/t/deps/store-1"));
        assert_eq!(program.package, Path::new("/r/a \"b\""));
        let unnamed = ARTIFACT.replace("chelseru-store@", "");
        assert_eq!(Program::read(&unnamed).unwrap().name, r#"a "b" store"#);
        for (from, to) in [
            (r#""test":true},"features""#, r#""test":false},"features""#),
            (r#""executable":"/t/deps/store-1""#, r#""executable":null"#),
            ("compiler-artifact", "build-script-executed"),
        ] {
            assert_eq!(Program::read(&ARTIFACT.replace(from, to)), None, "{to}");
        }
        assert_eq!(Program::read("running 3 tests"), None);
    }

    #[test]
    fn the_lines_of_one_program_stay_together_in_the_order_of_the_programs() {
        let mut stage = Stage::new(Vec::new());
        let say = |stage: &mut Stage<Vec<u8>>, place: usize, line: &str| stage.say(place, line.as_bytes());
        say(&mut stage, 0, "a1");
        say(&mut stage, 2, "c1");
        say(&mut stage, 1, "b1");
        say(&mut stage, 0, "a2");
        assert_eq!(stage.out, b"a1\na2\n");
        stage.leave(2);
        assert_eq!(stage.out, b"a1\na2\n");
        stage.leave(0);
        say(&mut stage, 1, "b2");
        assert_eq!(stage.out, b"a1\na2\nb1\nb2\n");
        stage.leave(1);
        assert_eq!(stage.out, b"a1\na2\nb1\nb2\nc1\n");
        say(&mut stage, 3, "d1");
        assert!(stage.out.ends_with(b"c1\nd1\n"));
    }

    #[cfg(unix)]
    #[test]
    fn programs_run_side_by_side_and_each_is_summed_by_itself() {
        let folder = std::env::temp_dir().join(format!("chelseru-programs-{}", std::process::id()));
        let met = folder.display();
        std::fs::create_dir_all(&folder).unwrap();
        // Each waits until the other one has begun.
        let wait = |own: &str, other: &str, sum: &str| {
            format!(
                "echo running 2 tests; : >{met}/{own}; until [ -e {met}/{other} ]; do sleep 0.01; done; {sum}"
            )
        };
        let good = "echo \"test result: ok. 2 passed; 0 failed; by $SAID_BY\"";
        let programs = vec![
            shell("good", &wait("one", "two", good)),
            shell("crashed", &wait("two", "one", "exit 3")),
            shell(
                "late",
                "echo running 1 test; echo '---- x stdout ----'; echo 'test result: FAILED. 0 passed; 1 failed'; exit 1",
            ),
        ];
        let mut ended = run_on(Stage::new(Vec::new()), programs, 2).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        ended.sort_by(|a, b| a.program.name.cmp(&b.program.name));
        let told: Vec<_> = ended
            .iter()
            .map(|ended| {
                (ended.outcome.passed, ended.outcome.failed, ended.outcome.crashed(), ended.succeeded)
            })
            .collect();
        assert_eq!(told, [(0, 0, true, false), (2, 0, false, true), (0, 1, false, false)]);
        assert_eq!(ended[2].outcome.failed_names(), ["x"]);

        let missing = Program { executable: "/nowhere/at-all".into(), ..shell("missing", "") };
        let Err(Failure::Failed(text)) = run_on(Stage::new(Vec::new()), vec![missing], 2) else {
            panic!("it ran")
        };
        assert!(text.contains("at-all"), "{text}");
    }
}
