"""What a run measured, in the forms that people and programs read."""

from shared.report.evaluation import Evaluation, calibration_scores, evaluate_classification
from shared.report.figure_set import report_figures
from shared.report.outputs import TestOutputs
from shared.report.predictions import write_predictions
from shared.report.schema import SCHEMA_VERSION, report_schema, validate_report
from shared.report.terminal import print_summary, summary_table
from shared.report.write import write_report

__all__ = [
    "SCHEMA_VERSION",
    "Evaluation",
    "TestOutputs",
    "calibration_scores",
    "evaluate_classification",
    "print_summary",
    "report_figures",
    "report_schema",
    "summary_table",
    "validate_report",
    "write_predictions",
    "write_report",
]
