from .config import TrainConfig as TrainConfig
from .config import load_train_config as load_train_config
from .trainer import Trainer as Trainer
