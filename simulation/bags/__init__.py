"""ROS 2 bags of drives, written and read without ROS."""

from .answers import AnswerMessage, write_answers
from .read import BagDrive, BagReport, open_bag
from .write import BagSummary, DroppedFrame, TopicSummary, write_bag

__all__ = [
    "AnswerMessage",
    "BagDrive",
    "BagReport",
    "BagSummary",
    "DroppedFrame",
    "TopicSummary",
    "open_bag",
    "write_answers",
    "write_bag",
]
