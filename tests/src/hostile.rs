//! Components and files that would hurt a gateway, for journeys and benches.
//!
//! Not here: guests that misbehave while they run (see the plugin host's own tests).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{FileType, Mode};

use crate::replace;

fn leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { byte } else { byte | 0x80 });
        if value == 0 {
            return;
        }
    }
}

pub fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    leb(out, content.len());
    out.extend_from_slice(content);
}

/// A component of one core module.
fn component(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in sections {
        section(&mut module, *id, content);
    }
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    section(&mut component, 1, &module);
    component
}

/// Takes minutes of CPU to compile: many functions of many loads and stores, in 15 MiB.
pub fn slow() -> Vec<u8> {
    // i32.store(p, i32.load(p) + p * 3)
    let step = [0x20, 0, 0x20, 0, 0x28, 2, 0, 0x20, 0, 0x41, 3, 0x6c, 0x6a, 0x36, 2, 0];
    let mut body = vec![0];
    body.extend_from_slice(&step.repeat(1000));
    body.push(0x0b);
    let count = (15 << 20) / (body.len() + 8);
    let (mut types, mut code) = (Vec::new(), Vec::new());
    leb(&mut types, count);
    types.resize(types.len() + count, 0);
    leb(&mut code, count);
    for _ in 0..count {
        leb(&mut code, body.len());
        code.extend_from_slice(&body);
    }
    // One type (i32) -> (), the functions, one page of memory, the code.
    component(&[(1, vec![1, 0x60, 1, 0x7f, 0]), (3, types), (5, vec![1, 0, 1]), (10, code)])
}

/// Takes several times as much memory to compile as it is large.
pub fn heavy(bytes: usize) -> Vec<u8> {
    let mut data = vec![1, 0, 0x41, 0, 0x0b];
    leb(&mut data, bytes);
    data.resize(data.len() + bytes, b'x');
    component(&[(5, vec![1, 0, 0x80, 0x20]), (11, data)])
}

/// The same plugin with other bytes: a custom section more.
pub fn changed(plugin: &[u8], name: u8) -> Vec<u8> {
    let mut plugin = plugin.to_vec();
    section(&mut plugin, 0, &[1, name]);
    plugin
}

/// Goes on in the plugins folder, with the bytes of a good plugin at hand, until it is told to stop.
pub type Attack = fn(&Path, &[u8], &AtomicBool);

/// What goes on in the plugins folder, in a thread.
pub struct Attacking {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Attacking {
    pub fn start(attack: Attack, plugins: &Path, good: &[u8]) -> Attacking {
        let over = Arc::new(AtomicBool::new(false));
        let (plugins, good, told) = (plugins.to_owned(), good.to_owned(), over.clone());
        let thread = std::thread::spawn(move || attack(&plugins, &good, &told));
        Attacking { over, thread }
    }

    /// Ends it. Panics when it could not do what it does.
    pub fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().expect("no panic");
    }
}

fn is_over(over: &AtomicBool) -> bool {
    std::thread::sleep(Duration::from_millis(20));
    over.load(Ordering::SeqCst)
}

fn compile_for_long(plugins: &Path, _: &[u8], over: &AtomicBool) {
    replace(&plugins.join("mine.wasm"), &slow());
    while !is_over(over) {}
}

fn refuse_again_and_again(plugins: &Path, good: &[u8], over: &AtomicBool) {
    for end in (0..good.len()).rev() {
        replace(&plugins.join("mine.wasm"), &good[..end]);
        if is_over(over) {
            return;
        }
    }
}

fn mend_again_and_again(plugins: &Path, good: &[u8], over: &AtomicBool) {
    for name in (0..=u8::MAX).cycle() {
        replace(&plugins.join("mine.wasm"), &changed(good, name));
        if is_over(over) {
            return;
        }
    }
}

fn copy_slowly(plugins: &Path, good: &[u8], over: &AtomicBool) {
    let mut file = fs::File::create(plugins.join("mine.wasm")).expect("writable");
    for byte in good {
        file.write_all(&[*byte]).expect("written");
        if is_over(over) {
            return;
        }
    }
}

fn put_what_is_no_plugin(plugins: &Path, _: &[u8], over: &AtomicBool) {
    let (pipe, huge) = (plugins.join("pipe.wasm"), plugins.join("huge.wasm"));
    while !is_over(over) {
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a pipe");
        fs::File::create(&huge).and_then(|file| file.set_len(20 << 30)).expect("a sparse file");
        is_over(over);
        fs::remove_file(&pipe).expect("there");
        // Not only beside the plugin, but in its place.
        fs::rename(&huge, plugins.join("mine.wasm")).expect("renamed");
    }
}

/// The name of the attack that ends only when it is told to.
pub const COMPILES_FOR_LONG: &str = "a component that compiles for long";

/// The attacks by name. Each replaces the file `mine.wasm`.
pub const ATTACKS: [(&str, Attack); 5] = [
    (COMPILES_FOR_LONG, compile_for_long),
    ("a component that is refused again and again", refuse_again_and_again),
    ("a component that is replaced again and again", mend_again_and_again),
    ("a slow copy", copy_slowly),
    ("a pipe and a file of 20 GiB", put_what_is_no_plugin),
];
