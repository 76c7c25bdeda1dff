//! `streamkeeper man`: the man page, in one piece. Commands and options come from the command line's own description;
//! what that does not know (signals, files, exit codes) is written here.

use std::io::{self, Write};

use clap_mangen::Man;

const MORE: &str = r#".SH SIGNALS
.TP
\fBSIGTERM\fR, \fBSIGINT\fR
Drain: not ready any more, no new streams, those that run go on until they end or drain.timeout is over. Then exit 0.
A second signal ends the process at once.
.TP
\fBSIGHUP\fR
Read the configuration again. One that is wrong changes nothing.
.SH FILES
.TP
\fIconfig.toml\fR
The configuration, in the working directory unless \fB\-\-config\fR names another.
.SH EXIT STATUS
.TP
\fB0\fR
All is well.
.TP
\fB1\fR
The configuration is wrong, an address cannot be had, or (\fBhealth\fR) the proxy is not ready.
.TP
\fB2\fR
The command line is wrong.
"#;

/// Writes the page as roff.
///
/// # Errors
/// When `out` takes no more.
pub(crate) fn write(command: clap::Command, out: &mut dyn Write) -> io::Result<()> {
    let mut command = command.disable_help_flag(true).disable_version_flag(true);
    command.build();
    let page = Man::new(command.clone()).manual("Streamkeeper");
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    writeln!(out, ".SH COMMANDS")?;
    for command in command.get_subcommands() {
        write_command(command, out)?;
    }
    out.write_all(MORE.as_bytes())
}

/// One command as a part of the page: its own sections, one step lower.
fn write_command(command: &clap::Command, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, ".SS {}", command.get_name())?;
    let page = Man::new(command.clone());
    let mut sections = Vec::new();
    page.render_description_section(&mut sections)?;
    page.render_options_section(&mut sections)?;
    let sections = String::from_utf8_lossy(&sections);
    let lines = sections.lines().filter(|line| !line.starts_with(".SH"));
    lines.for_each(|line| drop(writeln!(out, "{line}")));
    Ok(())
}
