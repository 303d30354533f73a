//! What is wrong with a configuration file, and how a person is told: file, line, the offending
//! text, and what is expected there. All faults of a file are told at once.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Whether the file can be used all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can; the operator should look.
    Warning,
}

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The offending text, in bytes of the file; `None` where something is missing from it as a
    /// whole.
    pub span: Option<Range<usize>>,
    /// What is expected there.
    pub expected: String,
    /// Another place of the file that explains the fault, and how.
    pub related: Option<(Range<usize>, String)>,
}

/// A file with what was found in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    path: PathBuf,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Orders the faults by severity, then by place.
    pub fn new(path: &Path, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        let place = |d: &Diagnostic| d.span.as_ref().map_or(usize::MAX, |span| span.start);
        diagnostics.sort_by_key(|diagnostic| (diagnostic.severity, place(diagnostic)));
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            diagnostics,
        }
    }

    /// A fault of the file as a whole: it cannot be read.
    pub fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            message: format!("cannot read {}: {error}", path.display()),
            span: None,
            expected: "a readable configuration file; name another with -c FILE".to_owned(),
            related: None,
        };
        Self::new(path, "", vec![diagnostic])
    }

    /// Errors first.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether the file must not be used.
    pub fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// One line each, for the log: `FILE:LINE: message (expected …)`.
    pub fn lines(&self) -> impl Iterator<Item = (Severity, String)> + '_ {
        self.diagnostics.iter().map(|diagnostic| {
            let place = match &diagnostic.span {
                Some(span) => format!("{}:{}: ", self.path.display(), self.line_of(span.start)),
                None => String::new(),
            };
            let line = format!(
                "{place}{} (expected {})",
                diagnostic.message, diagnostic.expected
            );
            (diagnostic.severity, line)
        })
    }

    /// The first fault in one line, and how many more there are.
    pub fn summary(&self) -> String {
        let Some((_, first)) = self.lines().next() else {
            return format!("{} is fine", self.path.display());
        };
        match self.diagnostics.len() - 1 {
            0 => first,
            more => format!("{first}; and {more} more"),
        }
    }

    /// All faults with their lines quoted.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let blocks: Vec<String> = self
            .diagnostics
            .iter()
            .map(|diagnostic| self.render_one(&renderer, diagnostic))
            .collect();
        blocks.join("\n\n")
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&diagnostic.message);
        let expected = format!("expected {}", diagnostic.expected);
        let Some(span) = &diagnostic.span else {
            let path = self.path.display();
            let text = format!("{path}: {expected}");
            return renderer.render(&[title.element(Level::NOTE.message(text))]);
        };
        let path = self.path.to_string_lossy();
        let mut snippet = Snippet::source(&self.text).path(path).annotation(
            AnnotationKind::Primary
                .span(self.within(span))
                .label(&expected),
        );
        if let Some((span, why)) = &diagnostic.related {
            let annotation = AnnotationKind::Context.span(self.within(span)).label(why);
            snippet = snippet.annotation(annotation);
        }
        renderer.render(&[title.element(snippet)])
    }

    fn within(&self, span: &Range<usize>) -> Range<usize> {
        let end = span.end.min(self.text.len());
        span.start.min(end)..end
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
