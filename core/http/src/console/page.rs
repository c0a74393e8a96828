//! The parts of which every page of the console is made, and their templates.
//!
//! A page is facts, tables and forms; one template shows all of them, so that each page has the same look, order and
//! keys. Everything is escaped by the templates. Texts of users and providers stand in isolated runs of their own
//! direction, so that they cannot change what stands beside them.

use askama::Template;
use chelseru_domain::Timestamp;
use chelseru_domain::operator::console::SavedFilter;

use super::show;
use super::words::{Language, Words};

/// Characters of a text in a cell; the rest is cut, so that no stored text makes a page slow.
const TEXT_CHARS_MAX: usize = 300;

/// What surrounds a page.
pub(crate) struct Frame {
    pub(crate) language: Language,
    /// Name and role of the operator.
    pub(crate) who: String,
    pub(crate) role: &'static str,
    /// Binds the forms to the session.
    pub(crate) form_key: String,
    /// The address of this page, to come back to.
    pub(crate) here: String,
    /// Filters of this page that the operator saved.
    pub(crate) saved: Vec<SavedFilter>,
    pub(crate) menu: Vec<MenuItem>,
    /// Shown above the page.
    pub(crate) notice: Option<Notice>,
}

pub(crate) struct MenuItem {
    pub(crate) href: &'static str,
    pub(crate) text: &'static str,
    pub(crate) current: bool,
}

pub(crate) struct Notice {
    pub(crate) bad: bool,
    pub(crate) text: String,
}

/// A page.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) title: String,
    pub(crate) parts: Vec<Part>,
    /// Shows something that changes by itself, so a browser opens its stream.
    pub(crate) live: bool,
}

impl Page {
    pub(crate) fn new(title: String, parts: Vec<Part>) -> Page {
        Page { title, parts, live: false }
    }
}

pub(crate) enum Part {
    Facts {
        title: String,
        facts: Vec<(&'static str, Cell)>,
    },
    Filters(Filters),
    Table(Table),
    Form(Box<Form>),
    /// A text that is shown once, such as a token.
    Secret {
        text: &'static str,
        lines: Vec<String>,
    },
    /// A QR code: an SVG path in a square of this many units.
    Picture {
        size: i32,
        path: String,
    },
    Note(String),
    /// Numbers of the last 24 hours.
    Trends(Vec<Trend>),
    /// Lines of a file, as they are.
    Text(String),
}

/// A series of numbers: what it counts, its sum, and its picture as an SVG path of bars.
pub(crate) struct Trend {
    pub(crate) label: &'static str,
    pub(crate) sum: String,
    pub(crate) steps: usize,
    pub(crate) path: String,
}

/// The height of a trend's picture; each number is one unit wide.
const TREND_HEIGHT: u64 = 24;

impl Trend {
    pub(crate) fn new(label: &'static str, values: &[u64], language: Language) -> Trend {
        let most = values.iter().copied().max().unwrap_or(0).max(1);
        let bar = |(at, value): (usize, &u64)| {
            // Something is seen of every number that is not 0.
            let height = (u128::from(*value) * u128::from(TREND_HEIGHT)).div_ceil(u128::from(most));
            (height > 0).then(|| format!("M{at},{TREND_HEIGHT}v-{height}h1v{height}z"))
        };
        let path = values.iter().enumerate().filter_map(bar).collect();
        let sum = values.iter().fold(0, |sum: u64, value| sum.saturating_add(*value));
        Trend { label, sum: show::grouped(sum, language), steps: values.len(), path }
    }
}

pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// The address of the next page.
    pub(crate) next: Option<String>,
    /// The address of the first page, on a later one.
    pub(crate) first: Option<String>,
    /// The address of the table as a file.
    pub(crate) csv: Option<String>,
}

impl Table {
    pub(crate) fn new(title: &str, columns: Vec<&'static str>) -> Table {
        let title = title.to_owned();
        Table { title, columns, rows: Vec::new(), next: None, first: None, csv: None }
    }
}

/// A form that changes the address of the page.
#[derive(Default)]
pub(crate) struct Filters {
    pub(crate) fields: Vec<Input>,
    /// Without filters.
    pub(crate) clear: String,
}

/// A form that acts.
#[derive(Clone)]
pub(crate) struct Form {
    pub(crate) title: &'static str,
    /// What it will do.
    pub(crate) text: String,
    pub(crate) action: String,
    pub(crate) fields: Vec<Input>,
    pub(crate) hidden: Vec<(&'static str, String)>,
    pub(crate) button: &'static str,
    /// It takes access, data or money, or replaces what serves. See [`Form::danger`].
    pub(crate) danger: Option<Named>,
    /// Open, because it was refused.
    pub(crate) open: bool,
}

impl Form {
    pub(crate) fn new(title: &'static str, text: &str, action: String) -> Form {
        Form {
            title,
            text: text.to_owned(),
            action,
            fields: Vec::new(),
            hidden: Vec::new(),
            button: title,
            danger: None,
            open: false,
        }
    }

    /// Marks a form that takes access, data or money from somebody, or replaces what serves. It acts only when the
    /// name of its target is typed: there is no such mark without a name.
    pub(crate) fn danger(mut self, target: impl ToString) -> Form {
        self.danger = Some(Named::Target(target.to_string()));
        self
    }

    /// The same for a form in which the target is chosen. The handler says which it is, with [`Form::target`].
    pub(crate) fn danger_of_choice(mut self) -> Form {
        self.danger = Some(Named::Choice);
        self
    }

    /// Names the target that was chosen.
    pub(crate) fn target(&mut self, target: impl ToString) {
        self.danger = Some(Named::Target(target.to_string()));
    }

    /// Whether a text names the target; true for a form that takes nothing away.
    pub(crate) fn is_named(&self, text: &str) -> bool {
        match &self.danger {
            None => true,
            Some(Named::Target(target)) => [text, &*show::latin(text)].contains(&target.as_str()),
            Some(Named::Choice) => false,
        }
    }

    pub(crate) fn hide(mut self, name: &'static str, value: impl ToString) -> Form {
        self.hidden.push((name, value.to_string()));
        self
    }

    pub(crate) fn field(mut self, input: Input) -> Form {
        self.fields.push(input);
        self
    }

    /// Whether it carries a file.
    fn has_file(&self) -> bool {
        self.fields.iter().any(Input::is_file)
    }

    /// Opens the form with a message at one of its fields, or above them when there is no such field.
    pub(crate) fn refuse(&mut self, name: &str, text: &str) {
        self.open = true;
        match self.fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.error = Some(text.to_owned()),
            None => self.text = text.to_owned(),
        }
    }

    /// Whether a hidden field has this value.
    pub(crate) fn hides(&self, name: &str, value: u64) -> bool {
        self.hidden.iter().any(|(hidden, held)| *hidden == name && *held == value.to_string())
    }
}

/// What has to be typed before a form acts.
#[derive(Clone)]
pub(crate) enum Named {
    Target(String),
    /// The name of what is chosen in the form, which is not known yet.
    Choice,
}

/// The forms that a role includes; `answered` stands for the one of its address.
pub(crate) fn acts(offered: impl IntoIterator<Item = Option<Form>>, answered: Option<&Form>) -> Vec<Part> {
    let shown = |form: Form| match answered.filter(|answered| answered.action == form.action) {
        Some(answered) => answered.clone(),
        None => form,
    };
    offered.into_iter().flatten().map(|form| Part::Form(Box::new(shown(form)))).collect()
}

#[derive(Default, Clone)]
pub(crate) struct Input {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    /// What was typed.
    pub(crate) value: String,
    pub(crate) kind: InputKind,
    pub(crate) error: Option<String>,
    pub(crate) hint: &'static str,
}

#[derive(Default, Clone)]
pub(crate) enum InputKind {
    /// In the direction of its first letter.
    #[default]
    Text,
    /// Left to right: numbers, addresses, codes.
    Code,
    Search,
    /// Value and label.
    Select(Vec<(String, String)>),
    Area,
    /// Many lines of a file, left to right.
    Long,
    /// A file of the browser's machine.
    File,
}

impl Input {
    pub(crate) fn code(name: &'static str, label: &'static str, value: String) -> Input {
        Input { name, label, value, kind: InputKind::Code, ..Input::default() }
    }

    /// A choice; the first one is any.
    pub(crate) fn select<'a>(
        name: &'static str,
        label: &'static str,
        value: String,
        choices: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Input {
        let choices =
            choices.into_iter().map(|(value, label)| (value.to_owned(), label.to_owned())).collect();
        Input { name, label, value, kind: InputKind::Select(choices), ..Input::default() }
    }

    fn choices(&self) -> &[(String, String)] {
        match &self.kind {
            InputKind::Select(choices) => choices,
            _ => &[],
        }
    }

    fn is_select(&self) -> bool {
        matches!(self.kind, InputKind::Select(_))
    }

    fn is_long(&self) -> bool {
        matches!(self.kind, InputKind::Long)
    }

    fn is_area(&self) -> bool {
        matches!(self.kind, InputKind::Area)
    }

    fn is_file(&self) -> bool {
        matches!(self.kind, InputKind::File)
    }

    fn is_code(&self) -> bool {
        matches!(self.kind, InputKind::Code)
    }

    fn is_search(&self) -> bool {
        matches!(self.kind, InputKind::Search)
    }
}

/// A value on a page.
pub(crate) enum Cell {
    /// A text of a person or a provider, in its own direction.
    Text(String),
    /// A number, key or address, left to right.
    Code(String),
    Link {
        href: String,
        text: String,
    },
    /// A word with a colour.
    State {
        text: String,
        tone: Tone,
    },
    Lines(Vec<String>),
    Form(Box<Form>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Plain,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Plain => "plain",
        }
    }
}

impl Cell {
    pub(crate) fn text(text: &str) -> Cell {
        Cell::Text(cut(text))
    }

    pub(crate) fn code(text: impl ToString) -> Cell {
        Cell::Code(cut(&text.to_string()))
    }

    pub(crate) fn link(href: String, text: impl ToString) -> Cell {
        Cell::Link { href, text: cut(&text.to_string()) }
    }

    pub(crate) fn time(at: Timestamp, language: Language) -> Cell {
        Cell::Code(show::time(at, language))
    }

    pub(crate) fn maybe_time(at: Option<Timestamp>, language: Language) -> Cell {
        Cell::Code(at.map(|at| show::time(at, language)).unwrap_or_default())
    }

    pub(crate) fn money(rial: u64, language: Language) -> Cell {
        Cell::Code(show::money(rial, language))
    }

    pub(crate) fn good(text: &str) -> Cell {
        Cell::State { text: cut(text), tone: Tone::Good }
    }

    pub(crate) fn bad(text: &str) -> Cell {
        Cell::State { text: cut(text), tone: Tone::Bad }
    }

    pub(crate) fn plain(text: &str) -> Cell {
        Cell::State { text: cut(text), tone: Tone::Plain }
    }
}

/// A text without control characters, of at most [`TEXT_CHARS_MAX`] characters.
pub(crate) fn cut(text: &str) -> String {
    let plain = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let mut short: String = text.chars().take(TEXT_CHARS_MAX).map(plain).collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// A page for an operator.
#[derive(Template)]
#[template(path = "console/page.html")]
pub(crate) struct Whole<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) page: &'a Page,
    pub(crate) t: &'static Words,
}

/// The login and the one-time link.
#[derive(Template)]
#[template(path = "console/login.html")]
pub(crate) struct Door<'a> {
    pub(crate) language: Language,
    pub(crate) t: &'static Words,
    pub(crate) error: Option<&'a str>,
    pub(crate) username: &'a str,
    /// The token of a one-time link, instead of name and password.
    pub(crate) link: Option<&'a str>,
    /// Where to go afterwards.
    pub(crate) then: &'a str,
    /// The language was asked for, so it is kept.
    pub(crate) asked_for: bool,
}

impl Door<'_> {
    /// This page in the other language.
    fn other(&self) -> String {
        let mut query = form_urlencoded::Serializer::for_suffix(String::from("?"), 1);
        query.append_pair("language", self.language.other().0);
        if let Some(link) = self.link {
            query.append_pair("token", link);
        } else if self.then != "/console/" {
            query.append_pair("then", self.then);
        }
        query.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_shows_each_number_beside_the_largest() {
        let trend = Trend::new("x", &[0, 12, 24, 1], Language::English);
        assert_eq!((trend.sum.as_str(), trend.steps), ("37", 4));
        assert_eq!(trend.path, "M1,24v-12h1v12zM2,24v-24h1v24zM3,24v-1h1v1z");
        let huge = Trend::new("x", &[u64::MAX, 1], Language::English);
        assert_eq!(huge.path, "M0,24v-24h1v24zM1,24v-1h1v1z");
        assert_eq!(Trend::new("x", &[0; 3], Language::English).path, "");
    }

    #[test]
    fn a_hostile_text_is_cut_and_escaped() {
        let hostile = format!("<script>alert(1)</script>\u{1b}[31m{}", "x".repeat(1_000_000));
        let frame = Frame {
            language: Language::English,
            who: "\"><img src=x>".to_owned(),
            role: "Admin",
            form_key: String::new(),
            here: "/console/".to_owned(),
            saved: Vec::new(),
            menu: Vec::new(),
            notice: Some(Notice { bad: true, text: "<b>".to_owned() }),
        };
        let table = Table { rows: vec![vec![Cell::text(&hostile)]], ..Table::new("t", vec!["<i>"]) };
        let input = Input { value: "\"><script>".to_owned(), ..Input::default() };
        let filters = Filters { fields: vec![input], clear: String::new() };
        let page = Page::new(hostile.clone(), vec![Part::Table(table), Part::Filters(filters)]);
        let page = Page { title: cut(&page.title), ..page };
        let html =
            Whole { frame: &frame, page: &page, t: frame.language.words() }.render().expect("rendered");
        assert!(html.len() < 20_000, "{} bytes", html.len());
        for bad in ["<script>alert", "<img", "<b>", "<i>", "\u{1b}", "\"><script"] {
            assert!(!html.contains(bad), "{bad}");
        }
        assert!(html.contains("&#60;script&#62;alert(1)"), "{html}");
    }
}
