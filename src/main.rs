//! The binary: the name it was called by picks the applet.

fn main() -> std::process::ExitCode {
    ogbox::applets::main()
}
