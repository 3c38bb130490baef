//! What a rollback takes away: the tables and columns that are there before and not after.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::{queries, session::Session};

/// What a rollback takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// A table with its rows.
    Table {
        /// Its name.
        table: String,
        /// How many.
        rows: i64,
    },
    /// A column with its values.
    Column {
        /// The table's name.
        table: String,
        /// The column's name.
        column: String,
        /// How many values that are not null.
        values: i64,
    },
    /// A column whose values are converted to another type.
    Retyped {
        /// The table's name.
        table: String,
        /// The column's name.
        column: String,
        /// The present and the coming type.
        types: [String; 2],
        /// How many values that are not null.
        values: i64,
    },
    /// Rows of a table that stays.
    Rows {
        /// The table's name.
        table: String,
        /// How many.
        rows: i64,
    },
}

impl Loss {
    /// The same with what was counted.
    pub(super) fn of(mut self, counted: i64) -> Self {
        match &mut self {
            Self::Table { rows: count, .. }
            | Self::Rows { rows: count, .. }
            | Self::Column { values: count, .. }
            | Self::Retyped { values: count, .. } => *count = counted,
        }
        self
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table { table, rows } => write!(f, "table {table} with {rows} rows"),
            Self::Column {
                table,
                column,
                values,
            } => write!(f, "column {table}.{column} with {values} values"),
            Self::Retyped {
                table,
                column,
                types: [from, to],
                values,
            } => {
                write!(
                    f,
                    "column {table}.{column}, {values} values converted from {from} to {to}"
                )
            }
            Self::Rows { table, rows } => write!(f, "{rows} rows of table {table}"),
        }
    }
}

/// Something that may hold data: the loss it would be, and the question that counts it.
pub(super) struct Candidate {
    pub(super) table: String,
    pub(super) loss: Loss,
    pub(super) counted: String,
}

/// The tables that hold data, by their identity: a renamed one is still there, one made anew under the old name is not.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) tables: BTreeMap<u32, Table>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    parent: Option<u32>,
    pub(super) filenode: u32,
    deleted: i64,
    /// Name and type by number.
    columns: BTreeMap<i16, (String, String)>,
}

impl Snapshot {
    pub(super) async fn read(session: &Session) -> Result<Self, tokio_postgres::Error> {
        let mut snapshot = Self::default();
        for row in session.query(queries::TABLES_AND_COLUMNS, &[]).await? {
            snapshot.add(&row);
        }
        Ok(snapshot)
    }

    fn add(&mut self, row: &Row) {
        let table = self.tables.entry(row.get("oid")).or_insert_with(|| Table {
            name: row.get("name"),
            parent: row.get("parent"),
            filenode: row.get("filenode"),
            deleted: row.get("deleted"),
            columns: BTreeMap::new(),
        });
        if let Some(number) = row.get("number") {
            table
                .columns
                .insert(number, (row.get("column"), row.get("type")));
        }
    }

    /// What is here and not there. A partition goes with its parent, which counts its rows.
    pub(super) fn gone_in(&self, after: &Self) -> Vec<Candidate> {
        let mut gone = Vec::new();
        for (oid, table) in &self.tables {
            let Some(then) = after.tables.get(oid) else {
                let parent_goes = table
                    .parent
                    .is_some_and(|parent| !after.tables.contains_key(&parent));
                if !parent_goes {
                    gone.push(Candidate {
                        table: table.name.clone(),
                        loss: Loss::Table {
                            table: table.name.clone(),
                            rows: 0,
                        },
                        counted: "*".to_owned(),
                    });
                }
                continue;
            };
            if table.parent.is_none() {
                gone.extend(table.columns_gone_in(then));
            }
        }
        gone
    }

    /// Rows that the trial deleted from tables that stay.
    pub(super) fn deleted_in(&self, after: &Self) -> Vec<Loss> {
        self.tables
            .iter()
            .filter_map(|(oid, table)| {
                let rows = after.tables.get(oid)?.deleted - table.deleted;
                (rows > 0).then(|| Loss::Rows {
                    table: table.name.clone(),
                    rows,
                })
            })
            .collect()
    }
}

impl Table {
    fn columns_gone_in(&self, then: &Self) -> Vec<Candidate> {
        let lossy = self
            .columns
            .iter()
            .filter_map(|(number, (column, present))| {
                let (table, column) = (self.name.clone(), column.clone());
                let loss = match then.columns.get(number) {
                    None => Loss::Column {
                        table,
                        column: column.clone(),
                        values: 0,
                    },
                    Some((_, coming)) if coming == present => return None,
                    Some((_, coming)) => Loss::Retyped {
                        table,
                        column: column.clone(),
                        types: [present.clone(), coming.clone()],
                        values: 0,
                    },
                };
                Some(Candidate {
                    table: self.name.clone(),
                    loss,
                    counted: column,
                })
            });
        lossy.collect()
    }
}
