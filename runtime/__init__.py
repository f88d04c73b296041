"""What runs on the robot: sensors, encoders, connections, language model, questions, scheduler.

Imports without torch, without ROS and without a GPU (`runtime.adaptation` is the exception).
"""
